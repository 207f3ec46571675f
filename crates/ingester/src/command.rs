//! The command line, and what each command does with a pipeline.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service::process::{EXIT_CONFIG, ExitStatus};
use service::{CommandLine, Context};
use thiserror::Error;

use crate::desk::Desk;
use crate::history::Cause;
use crate::memory::MemoryError;
use crate::plan::Seed;
use crate::reach::Probe;
use crate::report::Outcome;
use crate::run::Pipeline;
use crate::scheduler::Scheduler;
use crate::settings::IngesterSettings;

/// Fetches random users, formats them and posts them to the publisher.
#[derive(Debug, Parser)]
#[command(name = "ingester", version)]
pub struct Cli {
    #[command(flatten)]
    common: CommandLine,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run on schedule until told to stop (what happens without a command, too)
    Run,
    /// Run once; the exit code is 0 when every user was fetched and each valid one accepted
    Once {
        /// How many users, in place of run.users
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        users: Option<u64>,
        /// The seed, in place of run.seed; the same seed gives the same users
        #[arg(long, value_name = "S")]
        seed: Option<Seed>,
    },
}

impl Cli {
    /// The settings, with what the command puts in their place.
    ///
    /// # Errors
    /// The exit code to end with, as [`CommandLine::settings`].
    pub fn settings(&self) -> Result<IngesterSettings, ExitCode> {
        let mut settings: IngesterSettings = self.common.settings()?;
        if let Some(Command::Once { users, seed }) = &self.command {
            settings.run.users = users.unwrap_or(settings.run.users);
            settings.run.seed = seed.clone().or(settings.run.seed);
        }
        Ok(settings)
    }
}

/// Why the process ends other than by being told to.
#[derive(Debug, Error)]
pub enum Ended {
    /// Only the operator can mend it.
    #[error("a run that no other run can mend: {0}")]
    Hopeless(String),
    /// The run of `ingester once` is not complete; its reason was logged.
    #[error("the run is not complete but {0}")]
    Incomplete(&'static str),
    /// The state can't be used any more.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl ExitStatus for Ended {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Hopeless(_) => EXIT_CONFIG,
            Self::Incomplete(_) | Self::Memory(_) => 1,
        }
    }
}

/// Does what the command line says, while `probe` looks after the publisher.
///
/// # Errors
/// Each [`Ended`].
pub async fn perform(
    cli: Cli,
    settings: IngesterSettings,
    (pipeline, probe): (Pipeline, Probe),
    context: Context,
) -> Result<(), Ended> {
    let work = async {
        match cli.command {
            Some(Command::Once { .. }) => once(pipeline, &context).await,
            Some(Command::Run) | None => {
                let (memory, current) = (pipeline.memory().clone(), pipeline.current().clone());
                let desk = Desk::new(memory, current, settings);
                Scheduler::new(pipeline, desk).run(&context.shutdown).await
            }
        }
    };
    tokio::select! {
        outcome = work => outcome,
        never = probe.run() => match never {},
    }
}

/// One run, or the rest of one that another process began, whose summary is the last line on standard output.
async fn once(mut pipeline: Pipeline, context: &Context) -> Result<(), Ended> {
    let left = pipeline.memory().unfinished()?;
    let report = match left.first() {
        Some(entry) => pipeline.perform(entry.id, &context.shutdown).await?,
        None => {
            let order = pipeline.order(Cause::Manual);
            pipeline.run(&order, &context.shutdown).await?
        }
    };
    println!("{}", report.summary());
    if report.is_hopeless() {
        return Err(Ended::Hopeless(report.reason().unwrap_or_default()));
    }
    match report.outcome {
        Outcome::Complete => Ok(()),
        outcome => Err(Ended::Incomplete(outcome.name())),
    }
}
