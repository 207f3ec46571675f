//! The commands that only look: the history, one run, what a backfill would fetch. They start no process, and read the
//! state while an ingester uses it.

use std::path::Path;

use clap::Args;
use serde_json::json;
use service::process::{EXIT_CONFIG, ExitStatus};
use thiserror::Error;
use uuid::Uuid;

use crate::run::{Trigger, Run, RunFilter, RunSpec, RunState};
use crate::store::{Store, StoreError};
use crate::settings::IngesterSettings;

/// Refused records that are shown of a run.
const MOST_REFUSED: u32 = 1_000;

/// Which runs `ingester history` lists.
#[derive(Clone, Debug, Args)]
pub struct ListArguments {
    /// A line of JSON for each run
    #[arg(long)]
    json: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// In this state only: queued, running, complete, rejected, stopped, failed, missed, skipped
    #[arg(long)]
    state: Option<RunState>,
    /// Of this cause only: schedule, catch_up, manual, backfill, retry
    #[arg(long)]
    cause: Option<Trigger>,
}

/// There is nothing to look at.
#[derive(Debug, Error)]
pub enum RunsError {
    /// Without a file there is no history.
    #[error("`state.path` must be set: without it the history ends with the process")]
    NoState,
    /// The state does not know the run.
    #[error("the state knows no run {0}")]
    UnknownRun(Uuid),
    /// The state can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ExitStatus for RunsError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoState => EXIT_CONFIG,
            Self::UnknownRun(_) | Self::Store(_) => 1,
        }
    }
}

/// Lists runs, the latest first.
///
/// # Errors
/// Each [`RunsError`] but [`RunsError::UnknownRun`].
pub fn history(settings: &IngesterSettings, arguments: &ListArguments) -> Result<(), RunsError> {
    let filter = RunFilter {
        state: arguments.state,
        cause: arguments.cause,
        before: None,
        limit: arguments.limit,
    };
    let runs = Store::read(path(settings)?)?.runs(&filter)?;
    if !arguments.json {
        println!("{HEADING}");
    }
    for run in &runs {
        println!(
            "{}",
            if arguments.json {
                json!(run).to_string()
            } else {
                line(run)
            }
        );
    }
    Ok(())
}

/// Shows one run.
///
/// # Errors
/// Each [`RunsError`].
pub fn show(settings: &IngesterSettings, run: Uuid) -> Result<(), RunsError> {
    let memory = Store::read(path(settings)?)?;
    let entry = memory.run(run)?.ok_or(RunsError::UnknownRun(run))?;
    let mut shown = json!(entry);
    shown["refused"] = json!(memory.refused(run, MOST_REFUSED)?);
    println!("{shown:#}");
    Ok(())
}

/// Says what `order` would fetch, as one line of JSON.
///
/// # Errors
/// None; the other commands have some.
pub fn plan(order: &RunSpec) -> Result<(), RunsError> {
    let plan = order.plan();
    let pages: Vec<_> = plan.pages().collect();
    println!(
        "{}",
        json!({
            "seed": order.seed,
            "users": plan.users(),
            "requests": pages.len(),
            "first": pages.first().map(|page| json!({"seed": page.seed, "page": page.page, "results": page.results})),
            "last": pages.last().map(|page| json!({"seed": page.seed, "page": page.page, "results": page.results})),
        })
    );
    Ok(())
}

fn path(settings: &IngesterSettings) -> Result<&Path, RunsError> {
    settings.state.path.as_deref().ok_or(RunsError::NoState)
}

const HEADING: &str = "run                                  cause    state    at                   seconds  fetched accepted  reason";

fn line(run: &Run) -> String {
    let at = run.started.or(run.scheduled).unwrap_or(run.created);
    let seconds = run
        .started
        .zip(run.ended)
        .map(|(from, until)| until.duration_since(from).as_secs());
    format!(
        "{} {:8} {:8} {} {:>7} {:>8} {:>8}  {}",
        run.id,
        run.cause,
        run.state,
        at.strftime("%FT%TZ"),
        seconds.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string()),
        run.counts.fetched,
        run.counts.accepted,
        run.reason.as_deref().unwrap_or(""),
    )
}
