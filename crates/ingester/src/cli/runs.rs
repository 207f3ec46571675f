//! Read-only commands: `runs list`, `runs show` and the dry run of `backfill`. They open no port and read the state file
//! while an ingester uses it.

use std::path::Path;

use clap::Args;
use serde_json::json;
use service::output::{OutputError, print_line};
use service::process::{EXIT_CONFIG, ExitStatus};
use thiserror::Error;
use uuid::Uuid;

use crate::config::IngesterSettings;
use crate::run::{Run, RunFilter, RunSpec, RunState, Trigger};
use crate::scheduler::run_queue::InvalidRequest;
use crate::store::outbox::MAX_REJECTED_RECORDS;
use crate::store::{Store, StoreError};

/// Arguments of `ingester runs list`.
#[derive(Clone, Debug, Args)]
pub struct ListArguments {
    /// Print one line of JSON per run
    #[arg(long)]
    json: bool,
    /// Maximum number of runs
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only runs in this state: queued, running, complete, rejected, cancelling, cancelled, failed, missed, skipped
    #[arg(long)]
    state: Option<RunState>,
    /// Only runs with this trigger: schedule, catch_up, manual, backfill, retry
    #[arg(long)]
    trigger: Option<Trigger>,
}

/// Error of a read-only command.
#[derive(Debug, Error)]
pub enum RunsError {
    /// No state file is configured.
    #[error("`state.path` is not set: runs are stored only in a state file")]
    NoState,
    /// The run is not in the state file.
    #[error("run {0} is not in the state file")]
    UnknownRun(Uuid),
    /// The requested run can't succeed.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The state file can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Standard output can't be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl ExitStatus for RunsError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoState | Self::Invalid(_) => EXIT_CONFIG,
            Self::UnknownRun(_) | Self::Store(_) | Self::Output(_) => 1,
        }
    }
}

/// Prints runs, newest first.
///
/// # Errors
/// Returns any [`RunsError`] except [`RunsError::UnknownRun`].
pub fn list(settings: &IngesterSettings, arguments: &ListArguments) -> Result<(), RunsError> {
    let filter = RunFilter {
        state: arguments.state,
        trigger: arguments.trigger,
        before: None,
        limit: arguments.limit,
    };
    let runs = Store::open_shared(path(settings)?)?.runs(&filter)?;
    if !arguments.json {
        print_line(HEADER)?;
    }
    for run in &runs {
        print_line(if arguments.json {
            json!(run.clone().with_verdict(&settings.pipeline)).to_string()
        } else {
            line(run)
        })?;
    }
    Ok(())
}

/// Prints one run as JSON.
///
/// # Errors
/// Returns any [`RunsError`].
pub fn show(settings: &IngesterSettings, run: Uuid) -> Result<(), RunsError> {
    let store = Store::open_shared(path(settings)?)?;
    let stored = store.run(run)?.ok_or(RunsError::UnknownRun(run))?;
    let stored = stored.with_verdict(&settings.pipeline);
    let mut details = json!(stored);
    details["rejected_records"] = json!(store.rejected_records(run, MAX_REJECTED_RECORDS)?);
    Ok(print_line(format_args!("{details:#}"))?)
}

/// Prints what `spec` would fetch as one line of JSON.
///
/// # Errors
/// Returns [`RunsError::Invalid`] or [`RunsError::Output`].
pub fn print_plan(spec: &RunSpec, settings: &IngesterSettings) -> Result<(), RunsError> {
    InvalidRequest::check(spec, settings)?;
    let plan = spec.plan();
    let expected = settings
        .source
        .rate_limit
        .min_duration(plan.users(), spec.page_size);
    let pages: Vec<_> = plan.pages().collect();
    let plan = json!({
        "seed": spec.seed,
        "users": plan.users(),
        "requests": pages.len(),
        "expected_seconds": expected.as_secs(),
        "first": pages.first().map(|page| json!({"seed": page.seed, "page": page.page, "results": page.results})),
        "last": pages.last().map(|page| json!({"seed": page.seed, "page": page.page, "results": page.results})),
    });
    Ok(print_line(plan)?)
}

fn path(settings: &IngesterSettings) -> Result<&Path, RunsError> {
    settings.state.path.as_deref().ok_or(RunsError::NoState)
}

const HEADER: &str = "run                                  trigger  state      at                   seconds  fetched accepted  reason";

fn line(run: &Run) -> String {
    let at = run.started.or(run.scheduled).unwrap_or(run.created);
    let seconds = run
        .started
        .zip(run.ended)
        .map(|(from, until)| until.duration_since(from).as_secs());
    format!(
        "{} {:8} {:10} {} {:>7} {:>8} {:>8}  {}",
        run.id,
        run.trigger,
        run.state,
        at.strftime("%FT%TZ"),
        seconds.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string()),
        run.counts.fetched,
        run.counts.accepted,
        run.reason.as_deref().unwrap_or(""),
    )
}
