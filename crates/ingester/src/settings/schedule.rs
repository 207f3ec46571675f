//! When runs start. The rules between these values stand in `settings`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cron::{Cron, Zone};

/// When runs start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleSettings {
    /// A cron expression, with seconds in front or without; goes before the interval.
    pub cron: Option<Cron>,
    /// By whose clocks the cron expression goes.
    pub time_zone: Zone,
    /// From start to start, without a cron expression; the first run starts at once.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub interval: Duration,
    /// Each start comes later by a part of this, so that many ingesters don't start at once.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub jitter: Duration,
    /// Which of the starts that nobody was there for are caught up with.
    pub catch_up: CatchUp,
    /// With `all`, at most so many, the latest.
    pub max_catchup_runs: usize,
    /// What becomes of a start that falls into another run.
    pub concurrency_policy: ConcurrencyPolicy,
    /// How often a failed run is tried again before the next regular start.
    pub retries: u32,
    /// How long after the failure.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub retry_delay: Duration,
}

/// Which of the starts that nobody was there for are caught up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// None.
    None,
    /// The latest one, unless the next is on time.
    Latest,
    /// All, up to `max_catchup_runs`.
    All,
}

/// What becomes of a start that falls into another run. Runs never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConcurrencyPolicy {
    /// It is skipped.
    Skip,
    /// One waits for the run to end; others are skipped.
    Queue,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            cron: None,
            time_zone: Zone::utc(),
            interval: Duration::from_secs(24 * 3_600),
            jitter: Duration::ZERO,
            catch_up: CatchUp::Latest,
            max_catchup_runs: 10,
            concurrency_policy: ConcurrencyPolicy::Skip,
            retries: 1,
            retry_delay: Duration::from_secs(300),
        }
    }
}
