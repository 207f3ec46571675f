//! A run: why it starts, what it fetches and how it ended. Plain data; [`store`](crate::store) persists it.

pub mod active_run;
pub mod pipeline;
pub mod plan;
pub mod range_set;
pub mod run_numbers;
pub mod run_progress;
pub mod run_stats;
pub mod run_trace;
pub mod watchdog;

pub mod exit_error;
pub mod report;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::config::{IngesterSettings, PipelineSettings};
use crate::ledger::verdict::LedgerVerdict;
use crate::run::plan::{PagePlan, PageRange, Seed};
use crate::run::run_stats::RunCounts;

/// What started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Its scheduled time.
    Schedule,
    /// A scheduled start that was missed while the scheduler was not running.
    CatchUp,
    /// A request over the API, or `ingester once`.
    Manual,
    /// `ingester backfill`.
    Backfill,
    /// The failure of the previous run.
    Retry,
}

/// State of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits until no other run is active.
    Queued,
    /// Active, or interrupted and resumed by the next process.
    Running,
    /// Every user was fetched and every valid record accepted.
    Complete,
    /// Every user was fetched; the publisher rejected some records.
    Rejected,
    /// Cancelled, but still delivering what it has fetched.
    Cancelling,
    /// Ended on request.
    Cancelled,
    /// Ended with an error.
    Failed,
    /// A scheduled start while the scheduler was not running.
    Missed,
    /// A scheduled start while another run was active.
    Skipped,
}

macro_rules! named {
    ($type:ident { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every variant.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in the state file, the API and metric labels.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $type {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().find(|known| known.name() == text);
                found.copied().ok_or(concat!("must be one of: ", $($name, " "),+))
            }
        }
    };
}

named!(Trigger {
    Schedule => "schedule",
    CatchUp => "catch_up",
    Manual => "manual",
    Backfill => "backfill",
    Retry => "retry",
});

named!(RunState {
    Queued => "queued",
    Running => "running",
    Complete => "complete",
    Rejected => "rejected",
    Cancelling => "cancelling",
    Cancelled => "cancelled",
    Failed => "failed",
    Missed => "missed",
    Skipped => "skipped",
});

impl RunState {
    /// Whether the run has ended for good.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Cancelling)
    }
}

/// What a run fetches, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSpec {
    /// What starts the run.
    pub trigger: Trigger,
    /// The scheduled start, for runs of the schedule.
    pub scheduled: Option<Timestamp>,
    /// Seed of the pages.
    pub seed: Seed,
    /// Number of users on all pages of the seed.
    pub users: u64,
    /// Users per page.
    pub page_size: u32,
    /// Pages to fetch; all pages if absent.
    pub pages: Option<PageRange>,
    /// Number of the retry, from 1; 0 for the first attempt.
    pub retry: u32,
    /// Name of the caller that requested the run over the API.
    pub requested_by: Option<String>,
}

impl RunSpec {
    /// Returns the pages to fetch.
    #[must_use]
    pub fn plan(&self) -> PagePlan {
        PagePlan::new(self.seed.clone(), self.users, self.page_size).only(self.pages)
    }
}

/// How a run delivers. A resumed run keeps it: its batches stay the same, and two versions of a user that its deduplication
/// let through stay farther apart than the batches in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverySpec {
    /// Records per request.
    pub batch_size: usize,
    /// Maximum number of batches in flight.
    pub max_in_flight: usize,
    /// Number of latest users among which duplicates are detected.
    pub duplicate_window: usize,
}

impl DeliverySpec {
    /// Returns the spec of runs that start with these settings.
    #[must_use]
    pub fn of(settings: &IngesterSettings) -> Self {
        Self {
            batch_size: usize::try_from(settings.publisher.batch_size).unwrap_or(usize::MAX),
            max_in_flight: settings.publisher.max_in_flight,
            duplicate_window: settings.run.duplicate_window,
        }
    }
}

/// A stored run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Id; later runs have greater ids.
    #[serde(serialize_with = "as_text")]
    pub id: Uuid,
    /// What started the run.
    pub trigger: Trigger,
    /// State of the run.
    pub state: RunState,
    /// The scheduled start, for runs of the schedule.
    pub scheduled: Option<Timestamp>,
    /// When the run was stored.
    pub created: Timestamp,
    /// When the run started.
    pub started: Option<Timestamp>,
    /// When the run ended.
    pub ended: Option<Timestamp>,
    /// Seed; the same seed fetches the same users.
    pub seed: Seed,
    /// Number of users on all pages of the seed.
    pub users: u64,
    /// Users per page.
    pub page_size: u32,
    /// Pages to fetch; all pages if absent.
    pub pages: Option<PageRange>,
    /// Number of the retry, from 1; 0 for the first attempt.
    pub retry: u32,
    /// How often another process resumed the run after a kill or stop.
    pub resumed: u32,
    /// Name of the caller that requested the run over the API.
    pub requested_by: Option<String>,
    /// Name of the caller that cancelled the run over the API.
    pub cancelled_by: Option<String>,
    /// Why the run failed, was missed or was skipped.
    pub reason: Option<String>,
    /// Counts so far.
    pub counts: RunCounts,
    /// Number of fetched pages.
    #[serde(skip)]
    pub pages_fetched: u64,
    /// Sequence number of the next record.
    #[serde(skip)]
    pub next_record: u64,
    /// How the run delivers, set when it starts.
    #[serde(skip)]
    pub delivery: Option<DeliverySpec>,
    /// Number of leading pages whose records all have an outcome, set when the run ends.
    #[serde(skip)]
    pub delivered_pages: u64,
    /// Whether a cancelled run drops what it has not delivered yet.
    #[serde(skip)]
    pub drop_pending: bool,
    /// Whether the ledger confirms the run, once it has ended.
    pub verdict: Option<LedgerVerdict>,
    /// Whether the sequence numbers of its records are stored, as for each run that has started and ended.
    #[serde(skip)]
    pub has_numbers: bool,
}

fn as_text<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

impl Run {
    /// Adds the verdict of an ended run that has no final one.
    #[must_use]
    pub fn with_verdict(mut self, pipeline: &PipelineSettings) -> Self {
        let is_ended = self.started.is_some() && self.ended.is_some();
        if self
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.state.is_final())
            || !is_ended
        {
            return self;
        }
        if !self.has_numbers {
            self.verdict = Some(LedgerVerdict::unknown(
                "the run was started by an earlier version",
            ));
        } else if pipeline.streamer_url.is_none() {
            self.verdict = Some(LedgerVerdict::unknown("pipeline.streamer_url is not set"));
        } else {
            self.verdict.get_or_insert_default();
        }
        self
    }

    /// Returns the pages that an ended run has not delivered, or `None` if it has delivered all of them.
    #[must_use]
    pub fn undelivered_pages(&self) -> Option<PageRange> {
        let end = self.users.div_ceil(u64::from(self.page_size.max(1)));
        let (first, last) = self
            .pages
            .map_or((1, end), |pages| (pages.first(), pages.last().min(end)));
        PageRange::new(first.saturating_add(self.delivered_pages), last)
    }

    /// Returns the spec of the next retry: of the pages that the run has not delivered. If it has delivered all of them, its
    /// users were invalid, so all of them are fetched again.
    #[must_use]
    pub fn retried(&self) -> RunSpec {
        let spec = self.spec();
        let pages = match self.delivered_pages {
            0 => spec.pages,
            _ => self.undelivered_pages().or(spec.pages),
        };
        RunSpec {
            trigger: Trigger::Retry,
            retry: self.retry.saturating_add(1),
            requested_by: None,
            pages,
            ..spec
        }
    }

    /// Returns what the run fetches.
    #[must_use]
    pub fn spec(&self) -> RunSpec {
        RunSpec {
            trigger: self.trigger,
            scheduled: self.scheduled,
            seed: self.seed.clone(),
            users: self.users,
            page_size: self.page_size,
            pages: self.pages,
            retry: self.retry,
            requested_by: self.requested_by.clone(),
        }
    }
}

/// Selects runs, newest first.
#[derive(Clone, Debug)]
pub struct RunFilter {
    /// Only runs in this state.
    pub state: Option<RunState>,
    /// Only runs with this trigger.
    pub trigger: Option<Trigger>,
    /// Only runs older than this one.
    pub before: Option<Uuid>,
    /// Maximum number of runs, 1 to 1000.
    pub limit: u32,
}

impl Default for RunFilter {
    fn default() -> Self {
        Self {
            state: None,
            trigger: None,
            before: None,
            limit: 50,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for state in RunState::ALL {
            assert_eq!(state.name().parse(), Ok(*state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        for trigger in Trigger::ALL {
            assert_eq!(trigger.name().parse(), Ok(*trigger));
            assert_eq!(serde_json::to_value(trigger).unwrap(), trigger.name());
        }
        assert!("done".parse::<RunState>().unwrap_err().contains("complete"));
    }
}
