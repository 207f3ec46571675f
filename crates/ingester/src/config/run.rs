//! Settings of a run and of the state that is kept of runs.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::Violations;

use crate::run::plan::{MAX_USERS, Seed};

/// The size and limits of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSettings {
    /// The number of users that a run requests.
    pub users: u64,
    /// The seed of every run; if not set, each run has a random one.
    pub seed: Option<Seed>,
    /// The time after which a run fails. A process that resumes a run starts counting again. Longer than the publisher
    /// outages that a run should survive.
    #[serde(with = "service::duration")]
    pub timeout: Duration,
    /// The share of users that are invalid, or that the publisher rejects, above which a run fails, 0 to 1.
    pub max_invalid_share: f64,
    /// How often `once` and `backfill` log their progress if there is no terminal.
    #[serde(with = "service::duration")]
    pub progress_interval: Duration,
    /// The number of latest users of a run among which duplicates are detected. Each takes 50 bytes of memory.
    pub duplicate_window: usize,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            users: 5_000,
            seed: None,
            timeout: Duration::from_secs(4 * 3_600),
            max_invalid_share: 0.5,
            progress_interval: Duration::from_secs(10),
            duplicate_window: 100_000,
        }
    }
}

/// Persistent state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StateSettings {
    /// The SQLite file, created if absent; its folder must exist. If not set, no state survives the process.
    pub path: Option<PathBuf>,
    /// The maximum number of pages that are being fetched or wait for delivery, at least `source.max_in_flight`. Without a
    /// file it is two.
    pub outbox_pages: usize,
    /// How long runs are kept.
    pub retention: RetentionSettings,
}

/// How long runs are kept. A run is deleted when it exceeds either limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RetentionSettings {
    /// The maximum number of runs, at least 1.
    pub runs: u32,
    /// The maximum age of a run.
    #[serde(with = "service::duration")]
    pub age: Duration,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            runs: 1_000,
            age: Duration::from_secs(90 * 24 * 3_600),
        }
    }
}

impl Default for StateSettings {
    fn default() -> Self {
        Self {
            path: None,
            outbox_pages: 20,
            retention: RetentionSettings::default(),
        }
    }
}

impl RunSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require(
            (1..=MAX_USERS).contains(&self.users),
            "run.users",
            "must be between 1 and 1000000000",
        );
        violations.require(
            (0.0..=1.0).contains(&self.max_invalid_share),
            "run.max_invalid_share",
            "must be between 0 and 1",
        );
    }
}

impl StateSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require(
            self.retention.runs > 0,
            "state.retention.runs",
            "must be at least 1",
        );
    }
}
