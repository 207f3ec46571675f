//! Model-based property test of one partition: 10,000 random histories.
//!
//! Records are produced. Members join, freeze, continue as zombies and crash. Micro-batches complete in any order and in
//! parts. Checkpoints are written late or lost. Topics and tables are replaced, and operators replay and reset limits.
//! The invariants are checked after every step, and the table against the log at the end.
//!
//! [`server_model`] models Kafka and Cassandra. Write timestamps, partition state, offset tracker, start offsets and replay
//! are the streamer's own code. The seed is printed. `AFFLUENT_TEST_SEED` sets it, `AFFLUENT_TEST_HISTORY` selects one
//! history, and `AFFLUENT_TEST_HISTORIES` sets their number.

#![expect(clippy::unwrap_used, reason = "an unexpected error fails the test")]

mod history;
mod member;
mod server_model;

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use testkit::workspace::is_full_test_run;

use crate::history::History;

/// In the full test run; a third of them otherwise.
const HISTORIES: u64 = 9_000;

/// The random numbers of one history, determined by seed and number.
pub(crate) struct SeededRandom(TestRng);

impl SeededRandom {
    fn new(seed: u64, number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// Returns an index below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// Returns a number below `end`.
    pub(crate) fn number(&mut self, end: i64) -> i64 {
        self.0.random_range(0..end)
    }

    /// Returns true once in `times` calls, on average.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap())
}

#[test]
fn checkpoint_is_durable_prefix_and_table_matches_log() {
    let seed = variable("AFFLUENT_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one("histories"));
    let only = variable("AFFLUENT_TEST_HISTORY");
    println!("AFFLUENT_TEST_SEED={seed}");
    let started = Instant::now();
    let mut coverage = history::Coverage::default();
    let usual = if is_full_test_run() {
        HISTORIES
    } else {
        HISTORIES / 3
    };
    let histories = variable("AFFLUENT_TEST_HISTORIES").unwrap_or(usual);
    for number in only.map_or(0..histories, |only| only..only + 1) {
        let mut history = History::new(SeededRandom::new(seed, number));
        if let Err(violation) = history.run() {
            panic!("AFFLUENT_TEST_SEED={seed} AFFLUENT_TEST_HISTORY={number}: {violation}");
        }
        coverage.add(history.coverage());
    }
    println!("{coverage:?} in {:?}", started.elapsed());
    if only.is_none() {
        assert!(
            coverage.is_sufficient(),
            "the histories cover too few cases: {coverage:?}"
        );
    }
    assert!(
        histories > HISTORIES || started.elapsed() < Duration::from_secs(60),
        "{HISTORIES} histories took more than a minute"
    );
}
