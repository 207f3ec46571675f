//! What one run does, and what is kept of it. The rules between these values stand in `settings`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::Seed;

/// What one run does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSettings {
    /// How many users a run asks for.
    pub users: u64,
    /// The seed of every run; without one each run picks its own.
    pub seed: Option<Seed>,
    /// When a run is given up, counted anew by a process that takes one up. Longer than an outage of the publisher that
    /// a run should endure.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
    /// How often a run that somebody waits for says how far it is, where there is no terminal for a bar.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub progress_interval: Duration,
    /// Among how many of a run's latest users a repeated uuid is noticed. 50 bytes of memory each.
    pub duplicate_window: usize,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            users: 5_000,
            seed: None,
            timeout: Duration::from_secs(4 * 3_600),
            progress_interval: Duration::from_secs(10),
            duplicate_window: 100_000,
        }
    }
}

/// What outlives the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StateSettings {
    /// The SQLite file, created if absent; its folder must be there. Without one, nothing outlives the process.
    pub path: Option<PathBuf>,
    /// Pages that may wait to be delivered, those being fetched among them, at least `source.max_in_flight`. Without a file,
    /// two.
    pub outbox_pages: usize,
    /// Which runs are kept.
    pub retention: RetentionSettings,
}

/// Which runs are kept. A run is deleted when it exceeds either limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RetentionSettings {
    /// The number of runs, 1 or more.
    pub runs: u32,
    /// The age of a run.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
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
