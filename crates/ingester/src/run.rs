//! A run: why it starts, what it fetches and how it ended. Plain data; [`store`](crate::store) persists it.

pub mod plan;

pub mod active_run;
pub mod pipeline;
pub mod range_set;
pub mod run_progress;
pub mod run_stats;
pub mod watchdog;

pub mod exit_error;
pub mod report;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::run::plan::{PageRange, Plan, Seed};
use crate::run::run_stats::Counts;

/// Why a run came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Its time had come.
    Schedule,
    /// Its time had passed while nobody was there.
    CatchUp,
    /// Somebody asked for it.
    Manual,
    /// Somebody asked for certain users.
    Backfill,
    /// The run before failed.
    Retry,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It starts as soon as nothing else runs.
    Queued,
    /// Under way, or to be taken up again by the next process.
    Running,
    /// Every user was fetched and every valid one accepted.
    Complete,
    /// The same, but the publisher refused some.
    Rejected,
    /// ExitError on request.
    Stopped,
    /// It could not go on.
    Failed,
    /// A start that nobody was there for.
    Missed,
    /// A start that fell into another run.
    Skipped,
}

macro_rules! named {
    ($type:ident { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in the history, the API and the labels of metrics.
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
    Stopped => "stopped",
    Failed => "failed",
    Missed => "missed",
    Skipped => "skipped",
});

impl RunState {
    /// Whether nothing more will happen to the run.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// What a run is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSpec {
    /// Why.
    pub trigger: Trigger,
    /// The start that the schedule gave it, if it did.
    pub scheduled: Option<Timestamp>,
    /// What its pages start from.
    pub seed: Seed,
    /// How many users all pages of the seed hold together.
    pub users: u64,
    /// Users per page.
    pub page_size: u32,
    /// Which pages of them; all without.
    pub pages: Option<PageRange>,
    /// Which try of a failed run it is, from 1 on; 0 for a first one.
    pub retry: u32,
}

impl RunSpec {
    /// The same once more, after it failed.
    #[must_use]
    pub fn retried(self) -> Self {
        Self {
            trigger: Trigger::Retry,
            retry: self.retry.saturating_add(1),
            ..self
        }
    }

    /// The pages to ask for.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan::new(self.seed.clone(), self.users, self.page_size).only(self.pages)
    }
}

/// One run of the history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Its id; ids grow with time.
    #[serde(serialize_with = "as_text")]
    pub id: Uuid,
    /// Why it came about.
    pub trigger: Trigger,
    /// How far it has come.
    pub state: RunState,
    /// The start that the schedule gave it, if it did.
    pub scheduled: Option<Timestamp>,
    /// When it was entered here.
    pub created: Timestamp,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The seed, which repeats it.
    pub seed: Seed,
    /// How many users all pages of the seed hold together.
    pub users: u64,
    /// Users per page.
    pub page_size: u32,
    /// Which pages of them; all without.
    pub pages: Option<PageRange>,
    /// Which try of a failed run it is, from 1 on; 0 for a first one.
    pub retry: u32,
    /// How often another process took it up where the one before was killed or stopped.
    pub resumed: u32,
    /// Why it failed, was missed or skipped.
    pub reason: Option<String>,
    /// What it did.
    pub counts: Counts,
    /// How many of its pages are fetched.
    #[serde(skip)]
    pub pages_fetched: u64,
    /// The run's number of the next record.
    #[serde(skip)]
    pub next_record: u64,
    /// Records per request, once it has begun; whoever takes it up cuts its pages as before.
    #[serde(skip)]
    pub batch: Option<u32>,
}

fn as_text<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

impl Run {
    /// What it is to do.
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
        }
    }
}

/// Which runs are asked for, the latest first.
#[derive(Clone, Debug)]
pub struct RunFilter {
    /// In this state only.
    pub state: Option<RunState>,
    /// Of this cause only.
    pub trigger: Option<Trigger>,
    /// Older than this one.
    pub before: Option<Uuid>,
    /// At most so many, 1 to 1000.
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
    fn names_are_read_as_they_are_written() {
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
