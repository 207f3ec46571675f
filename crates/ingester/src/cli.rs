//! The command line: arguments and the implementation of each command.

pub mod progress_display;
pub mod remote;
pub mod runs;

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use futures::future::BoxFuture;
use service::http::auth::Authenticator;
use service::output::{OutputError, print_line};
use service::process::{ExitStatus, exit_with_error};
use service::{CommandLine, CompletionsCommand, ConfigCommand, Context, HealthCheck, ManCommand};
use uuid::Uuid;

use crate::api::ApiServer;
use crate::api::status::IngesterStatus;
use crate::cli::progress_display::ProgressDisplay;
use crate::cli::remote::{RemoteRunCommand, ScheduleCommand};
use crate::config::IngesterSettings;
use crate::delivery::publisher_health::PublisherProbe;
use crate::ledger::ledger_client::StreamerLedger;
use crate::ledger::verdict::{LedgerVerdict, VerdictState};
use crate::ledger::verdict_loop::VerdictLoop;
use crate::run::Trigger;
use crate::run::exit_error::ExitError;
use crate::run::pipeline::Pipeline;
use crate::run::plan::{MAX_USERS, PageRange, Seed};
use crate::run::report::{Report, RunOutcome};
use crate::scheduler::Scheduler;
use crate::scheduler::run_queue::{InvalidRequest, RunQueue, RunRequest};
use crate::store::StoreError;
use crate::webhook::Webhook;

/// How long `once` and `backfill` try to deliver the event of a failed run. The next process continues.
const EVENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Fetches random users, maps them to records and sends them to the publisher.
#[derive(Debug, Parser)]
#[command(
    name = "ingester",
    version,
    after_help = "Example: ingester run --config /etc/affluent/ingester.toml"
)]
pub struct Cli {
    #[command(flatten)]
    common: CommandLine,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Run on schedule and on demand until SIGTERM (the default command)
    #[command(after_help = "Example: ingester run --config ingester.toml")]
    Run,
    /// Execute one run; exits 0 when every user was fetched and every valid record accepted
    #[command(after_help = "Example: ingester once --users 5000 --seed abc")]
    Once {
        /// Number of users, overrides run.users
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_USERS))]
        users: Option<u64>,
        /// Seed, overrides run.seed; the same seed returns the same users
        #[arg(long, value_name = "S")]
        seed: Option<Seed>,
    },
    /// Fetch selected pages of a seed once, for example those of a failed run; exit codes as with once
    #[command(after_help = "Example: ingester backfill --users 20000 --seed abc --pages 3..4 --dry-run")]
    Backfill {
        /// Number of users on all pages of the seed
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_USERS))]
        users: u64,
        /// Seed, overrides run.seed
        #[arg(long, value_name = "S")]
        seed: Option<Seed>,
        /// Pages to fetch, counted from 1, both ends included
        #[arg(long, value_name = "A..B")]
        pages: Option<PageRange>,
        /// Print what would be fetched, without fetching
        #[arg(long)]
        dry_run: bool,
    },
    /// List or show the runs in the state file; start, cancel or retry runs of the running service
    #[command(
        subcommand,
        after_help = "Example: ingester runs list --state failed --config ingester.toml"
    )]
    Runs(RunsCommand),
    /// Show, pause or resume the schedule of the running service
    #[command(
        subcommand,
        after_help = "Example: ingester schedule pause --config ingester.toml"
    )]
    Schedule(ScheduleCommand),
    /// Query liveness or readiness of the ingester that runs with this configuration
    #[command(after_help = "Example: ingester healthcheck --ready --config ingester.toml")]
    Healthcheck(HealthCheck),
    #[command(after_help = "Example: ingester config print --config ingester.toml")]
    Config(ConfigCommand),
    Completions(CompletionsCommand),
    Man(ManCommand),
}

#[derive(Clone, Debug, Subcommand)]
enum RunsCommand {
    /// List runs, newest first
    #[command(after_help = "Example: ingester runs list --trigger schedule --limit 10 --json")]
    List(runs::ListArguments),
    /// Show one run as JSON, with the records that the publisher rejected
    #[command(after_help = "Example: ingester runs show 0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071")]
    Show {
        /// Id of the run
        run: uuid::Uuid,
    },
    #[command(flatten)]
    Remote(RemoteRunCommand),
}

impl Cli {
    /// Loads the settings.
    ///
    /// # Errors
    /// Returns the exit code, as [`CommandLine::settings`].
    pub fn settings(&self) -> Result<IngesterSettings, ExitCode> {
        self.common.settings()
    }

    /// Executes a command that needs no valid settings. Returns `None` for every other command.
    #[must_use]
    pub fn run_without_settings(&self) -> Option<ExitCode> {
        match self.command.as_ref()? {
            Command::Config(command) => Some(command.perform::<IngesterSettings>(&self.common)),
            Command::Completions(command) => Some(command.perform::<Self>()),
            Command::Man(command) => Some(command.perform::<Self>()),
            _ => None,
        }
    }

    /// Executes a command that needs no server, no signal handling and no lock on the state file. Returns `None` for every
    /// other command.
    #[must_use]
    pub fn run_offline<'a>(&'a self, settings: &'a IngesterSettings) -> BoxFuture<'a, Option<ExitCode>> {
        Box::pin(async {
            let result = match self.command.as_ref()? {
                Command::Runs(RunsCommand::List(arguments)) => runs::list(settings, arguments),
                Command::Runs(RunsCommand::Show { run }) => runs::show(settings, *run),
                Command::Runs(RunsCommand::Remote(command)) => {
                    return Some(exit_code(command.perform(settings).await));
                }
                Command::Schedule(command) => return Some(exit_code(command.perform(settings).await)),
                Command::Backfill { dry_run: true, .. } => {
                    let (trigger, request) = self.request();
                    runs::print_plan(&request.spec(trigger, settings), settings)
                }
                Command::Healthcheck(check) => {
                    return Some(check.perform("ingester", &settings.process).await.into());
                }
                _ => return None,
            };
            Some(exit_code(result))
        })
    }

    /// Returns the trigger and the request of a command for a single run.
    fn request(&self) -> (Trigger, RunRequest) {
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

fn exit_code<E: ExitStatus + std::error::Error + 'static>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_with_error("ingester", &error, error.exit_code()),
    }
}

/// Executes the command while `probe` checks the publisher.
///
/// # Errors
/// Returns an [`ExitError`] when the process must exit with another code than 0.
pub fn execute(
    cli: Cli,
    settings: IngesterSettings,
    (pipeline, probe): (Pipeline, PublisherProbe),
    context: Context,
) -> BoxFuture<'static, Result<(), ExitError>> {
    let command = async move {
        match cli.command {
            Some(Command::Run) | None => serve(settings, pipeline, &context).await,
            Some(_) => {
                let (trigger, request) = cli.request();
                once(trigger, request, &settings, pipeline, &context).await
            }
        }
    };
    // So that the binary does not compile the library's futures again.
    Box::pin(async {
        tokio::select! {
            outcome = command => outcome,
            never = probe.run() => match never {},
        }
    })
}

/// Runs the service: scheduler, API, comparison with the ledger, webhook, and reload of tokens and keys.
async fn serve(settings: IngesterSettings, pipeline: Pipeline, context: &Context) -> Result<(), ExitError> {
    let (store, active_run) = (pipeline.store().clone(), pipeline.active_run().clone());
    let (address, interval) = (settings.api.listen, settings.api.reload_interval);
    let authenticator = Arc::new(Authenticator::load(&settings.auth)?);
    let (verdicts, webhook) = (verdicts(&settings, &pipeline)?, webhook(&settings, &pipeline)?);
    let run_ended = pipeline.run_ended();
    let queue = RunQueue::new(store, active_run, settings);
    let status = IngesterStatus::new(queue.clone(), pipeline.metrics(), context);
    status.add_sections(&context.status);
    let api = ApiServer::bind(address, queue.clone(), Arc::clone(&authenticator), status).await?;
    let reloading = authenticator.watch(interval, &context.health, context.shutdown.clone());
    let scheduler = Scheduler::new(pipeline, queue)?;
    let serving = async {
        tokio::select! {
            result = scheduler.run(&context.shutdown) => result,
            error = api.serve() => Err(error.into()),
            error = optional(verdicts.map(|verdicts| verdicts.run(run_ended.clone()))) => Err(error.into()),
            error = optional(webhook.map(|webhook| webhook.run(run_ended.clone()))) => Err(error.into()),
        }
    };
    // Token reload ends on shutdown, while the active run still drains.
    let mut serving = pin!(serving);
    tokio::select! {
        result = &mut serving => result,
        () = reloading => serving.await,
    }
}

/// Returns the comparison with the ledger, if a streamer is configured.
fn verdicts(
    settings: &IngesterSettings,
    pipeline: &Pipeline,
) -> Result<Option<VerdictLoop<StreamerLedger>>, ExitError> {
    let Some(streamer) = &settings.pipeline.streamer_url else {
        return Ok(None);
    };
    let ledger = StreamerLedger::new(streamer).map_err(ExitError::Tls)?;
    let counter = pipeline.metrics().verdicts.clone();
    Ok(Some(VerdictLoop::new(
        ledger,
        pipeline.store().clone(),
        &settings.pipeline,
        counter,
    )))
}

/// Returns the webhook, if one is configured. Without one, events of earlier runs are dropped.
fn webhook(settings: &IngesterSettings, pipeline: &Pipeline) -> Result<Option<Webhook>, ExitError> {
    let webhook = Webhook::new(&settings.webhook, pipeline.store().clone()).map_err(ExitError::Tls)?;
    if webhook.is_none() {
        pipeline.store().drop_events()?;
    }
    Ok(webhook)
}

/// Awaits `work`, or forever if there is none.
async fn optional<T>(work: Option<impl Future<Output = T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// Executes one run and prints its summary as the last line of standard output. Finishes unfinished runs of an earlier
/// process first; one that matches the request replaces the new run.
async fn once(
    trigger: Trigger,
    request: RunRequest,
    settings: &IngesterSettings,
    mut pipeline: Pipeline,
    context: &Context,
) -> Result<(), ExitError> {
    let spec = request.spec(trigger, settings);
    InvalidRequest::check(&spec, settings)?;
    let display = ProgressDisplay::new(pipeline.active_run().clone(), settings.run.progress_interval);
    let store = pipeline.store().clone();
    let (verdicts, webhook) = (verdicts(settings, &pipeline)?, webhook(settings, &pipeline)?);
    let runs = async {
        for unfinished in store.unfinished_runs()? {
            let report = pipeline.execute(unfinished.id, &context.shutdown).await?;
            // A cancelled run does not replace the requested one.
            let requested = request.matches(&unfinished.spec(), settings)
                && !matches!(report.outcome, RunOutcome::Cancelled(_));
            if requested || report.is_unrecoverable() || context.shutdown.is_cancelled() {
                return Ok(report);
            }
            print_summary(&report)?;
        }
        Ok(pipeline.run(&spec, &context.shutdown).await?)
    };
    let report: Result<Report, ExitError> = tokio::select! {
        report = runs => report,
        never = display.show() => match never {},
    };
    let mut report = report?;
    let has_ended = store.run(report.run)?.is_some_and(|run| run.ended.is_some());
    if has_ended {
        report.verdict = Some(tokio::select! {
            verdict = final_verdict(report.run, settings, verdicts) => verdict?,
            () = context.shutdown.cancelled() => LedgerVerdict::default(),
        });
        if let Some(webhook) = webhook {
            tokio::select! {
                sent = webhook.send_all(EVENT_TIMEOUT) => sent?,
                () = context.shutdown.cancelled() => {}
            }
        }
    }
    print_summary(&report)?;
    if report.is_unrecoverable() {
        return Err(ExitError::Unrecoverable(report.reason().unwrap_or_default()));
    }
    match report.outcome {
        RunOutcome::Complete => match report.verdict {
            Some(LedgerVerdict {
                state: VerdictState::Violated,
                reason,
                ..
            }) => Err(ExitError::Violated(reason.unwrap_or_default())),
            _ => Ok(()),
        },
        outcome => Err(ExitError::Incomplete(outcome.name())),
    }
}

/// Waits for the verdict of an ended run, for at most `pipeline.verdict_timeout`.
async fn final_verdict(
    run: Uuid,
    settings: &IngesterSettings,
    verdicts: Option<VerdictLoop<StreamerLedger>>,
) -> Result<LedgerVerdict, StoreError> {
    match verdicts {
        Some(mut verdicts) => {
            verdicts
                .wait_for_verdict(run, settings.pipeline.verdict_timeout)
                .await
        }
        None => Ok(LedgerVerdict::unknown("pipeline.streamer_url is not set")),
    }
}

/// Prints the summary of a run. A reader that has gone does not change the run's outcome.
fn print_summary(report: &Report) -> Result<(), OutputError> {
    match print_line(report.summary()) {
        Err(error) if error.is_broken_pipe() => Ok(()),
        printed => printed,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }
}
