//! The command line, and what each command does.

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use service::access::Callers;
use service::process::{ExitStatus as _, exit_with_error};
use service::{CommandLine, Context, HealthCheck, reload};

use crate::api::Api;
use crate::cli::runs;
use crate::scheduler::run_queue::{RunQueue, RunRequest};
use crate::run::exit_error::ExitError;
use crate::run::Trigger;
use crate::store::StoreError;
use crate::run::plan::{PageRange, Seed};
use crate::cli::progress_display::ProgressDisplay;
use crate::delivery::publisher_health::PublisherProbe;
use crate::run::report::{Outcome, Report};
use crate::run::pipeline::Pipeline;
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

#[derive(Clone, Debug, Subcommand)]
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
    /// UserApi certain users, once, such as those of a run that failed; the exit code is as with once
    Backfill {
        /// How many users all pages of the seed hold together
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        users: u64,
        /// The seed, in place of run.seed
        #[arg(long, value_name = "S")]
        seed: Option<Seed>,
        /// Only these of its pages, counted from 1, the last one included
        #[arg(long, value_name = "A..B")]
        pages: Option<PageRange>,
        /// Say what would be fetched, and fetch nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List the runs of the state, the latest first
    History(books::ListArguments),
    /// Show one run of the state as JSON, with the records that the publisher refused
    Show {
        /// The run's id
        run: uuid::Uuid,
    },
    /// Ask the ingester that runs with this configuration how it is
    Healthcheck(HealthCheck),
}

impl Cli {
    /// The settings.
    ///
    /// # Errors
    /// The exit code to end with, as [`CommandLine::settings`].
    pub fn settings(&self) -> Result<IngesterSettings, ExitCode> {
        self.common.settings()
    }

    /// Does what needs no process: no port, no signals, no lock on the state. None when the command is another.
    #[must_use]
    pub async fn look(&self, settings: &IngesterSettings) -> Option<ExitCode> {
        let looked = match self.command.as_ref()? {
            Command::History(arguments) => books::history(settings, arguments),
            Command::Show { run } => books::show(settings, *run),
            Command::Backfill { dry_run: true, .. } => {
                let (cause, wish) = self.wish();
                books::plan(&wish.order(cause, settings))
            }
            Command::Healthcheck(check) => {
                return Some(check.perform("ingester", &settings.process).await.into());
            }
            _ => return None,
        };
        Some(match looked {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => exit_with_error("ingester", &error, error.exit_code()),
        })
    }

    /// What a command for a single run wants, and why.
    fn wish(&self) -> (Trigger, RunRequest) {
        match self.command.clone() {
            Some(Command::Backfill {
                users, seed, pages, ..
            }) => {
                let users = Some(users);
                (Trigger::Backfill, RunRequest { users, seed, pages })
            }
            Some(Command::Once { users, seed }) => {
                let pages = None;
                (Trigger::Manual, RunRequest { users, seed, pages })
            }
            _ => (Trigger::Manual, RunRequest::default()),
        }
    }
}

/// Does what the command line says, while `probe` looks after the publisher.
///
/// # Errors
/// Each [`ExitError`].
pub async fn perform(
    cli: Cli,
    settings: IngesterSettings,
    (pipeline, probe): (Pipeline, PublisherProbe),
    context: Context,
) -> Result<(), ExitError> {
    let work = async {
        match cli.command {
            Some(Command::Run) | None => serve(settings, pipeline, &context).await,
            Some(_) => {
                let (cause, wish) = cli.wish();
                once(cause, wish, &settings, pipeline, &context).await
            }
        }
    };
    tokio::select! {
        outcome = work => outcome,
        never = probe.run() => match never {},
    }
}

/// The service: runs on schedule and on demand.
async fn serve(settings: IngesterSettings, pipeline: Pipeline, context: &Context) -> Result<(), ExitError> {
    let (memory, current) = (pipeline.memory().clone(), pipeline.current().clone());
    let (address, interval) = (settings.api.listen, settings.api.reload_interval);
    let callers = Arc::new(Callers::load(&settings.auth)?);
    let desk = RunQueue::new(memory, current, settings);
    let api = Api::bind(address, desk.clone(), Arc::clone(&callers)).await?;
    let rereading = reload::watch("tokens", interval, context.shutdown.clone(), move || {
        callers.reload()
    });
    let working = async {
        tokio::select! {
            ended = Scheduler::new(pipeline, desk).run(&context.shutdown) => ended,
            ended = api.serve() => Ok(ended?),
        }
    };
    // Told to stop, it looks at no tokens any more, while the run in hand ends.
    let mut working = pin!(working);
    tokio::select! {
        ended = &mut working => ended,
        () = rereading => working.await,
    }
}

/// One run, whose summary is the last line on standard output. A run that another process left unfinished comes first,
/// and is the one when it is what was asked for.
async fn once(
    cause: Trigger,
    wish: RunRequest,
    settings: &IngesterSettings,
    mut pipeline: Pipeline,
    context: &Context,
) -> Result<(), ExitError> {
    let progress = ProgressDisplay::of(pipeline.current().clone(), settings.run.progress_interval);
    let memory = pipeline.memory().clone();
    let runs = async {
        for left in memory.unfinished()? {
            let report = pipeline.perform(left.id, &context.shutdown).await?;
            let asked_for = wish.is_met_by(&left.order(), settings);
            if asked_for || report.is_hopeless() || context.shutdown.is_cancelled() {
                return Ok(report);
            }
            println!("{}", report.summary());
        }
        pipeline
            .run(&wish.order(cause, settings), &context.shutdown)
            .await
    };
    let report: Result<Report, StoreError> = tokio::select! {
        report = runs => report,
        never = progress.show() => match never {},
    };
    let report = report?;
    println!("{}", report.summary());
    if report.is_hopeless() {
        return Err(ExitError::Unrecoverable(report.reason().unwrap_or_default()));
    }
    match report.outcome {
        Outcome::Complete => Ok(()),
        outcome => Err(ExitError::Incomplete(outcome.name())),
    }
}
