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
    pub deadline: Duration,
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
            deadline: Duration::from_secs(4 * 3_600),
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
    /// Pages that may wait to be delivered, those being fetched among them, at least `source.in_flight`. Without a file,
    /// two.
    pub outbox_pages: usize,
    /// Runs that are remembered, 1 or more.
    pub keep_runs: u32,
    /// For how long they are.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub keep_for: Duration,
}

impl Default for StateSettings {
    fn default() -> Self {
        Self {
            path: None,
            outbox_pages: 20,
            keep_runs: 1_000,
            keep_for: Duration::from_secs(90 * 24 * 3_600),
        }
    }
}
