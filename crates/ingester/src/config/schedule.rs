//! Settings of the schedule.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::Violations;

use crate::scheduler::cron::{Cron, Zone};

/// When runs start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleSettings {
    /// Whether runs start by the schedule. Otherwise only requests and retries start runs.
    pub enabled: bool,
    /// A cron expression with five fields, or six with seconds first; overrides the interval.
    pub cron: Option<Cron>,
    /// The time zone of the cron expression.
    pub time_zone: Zone,
    /// The time from start to start without a cron expression; the first run starts immediately.
    #[serde(with = "service::duration")]
    pub interval: Duration,
    /// The maximum random delay of each start, so that several ingesters don't start at the same moment. Less than the time
    /// between two starts.
    #[serde(with = "service::duration")]
    pub jitter: Duration,
    /// Which missed starts are caught up.
    pub catch_up: CatchUp,
    /// With `all`, the maximum number of missed starts to catch up: the latest.
    pub max_catchup_runs: usize,
    /// What happens to a start while another scheduled run is active. A requested run only delays a start.
    pub concurrency_policy: ConcurrencyPolicy,
    /// How often a failed run is retried before the next regular start.
    pub retries: u32,
    /// The delay between a failure and its retry.
    #[serde(with = "service::duration")]
    pub retry_delay: Duration,
}

/// Which missed starts are caught up: those while the scheduler was not running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// None.
    None,
    /// The latest one, unless the next start is due.
    Latest,
    /// All, up to `max_catchup_runs`.
    All,
}

/// What happens to a start while another run is active. Runs never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConcurrencyPolicy {
    /// The start is skipped.
    Skip,
    /// One waits until the active run ends; others are skipped.
    Queue,
}

impl ScheduleSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        let gap = match &self.cron {
            Some(cron) => cron.shortest_gap(self.time_zone.rules()),
            None => self.interval,
        };
        violations.require(
            self.jitter.is_zero() || self.jitter < gap,
            "schedule.jitter",
            &format!(
                "must be less than the time between two starts, {}",
                service::duration::format(gap)
            ),
        );
    }
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            enabled: true,
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
