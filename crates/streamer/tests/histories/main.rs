//! Ten thousand histories of one partition, each made by chance: records are produced, members come, freeze, go on as
//! zombies and die, micro-batches complete in any order and by halves, checkpoints land late or never, topics and tables
//! are replaced, operators replay and resume. What the streamer's pure core does in them is held against its laws after
//! every step, and the table against the log at the end.
//!
//! The servers are modelled here ([`servers`]); the clock, the lane, the progress, the start and the replay are the
//! streamer's own. The seed is printed; `AFFLUENT_TEST_SEED` sets it, `AFFLUENT_TEST_HISTORY` picks one history, and
//! `AFFLUENT_TEST_HISTORIES` sets how many there are.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod history;
mod member;
mod servers;

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::history::History;

const HISTORIES: u64 = 10_000;

/// Chance of one history: the same for the same seed and number.
pub(crate) struct Chance(TestRng);

impl Chance {
    fn new(seed: u64, number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// Below `end`.
    pub(crate) fn number(&mut self, end: i64) -> i64 {
        self.0.random_range(0..end)
    }

    /// Once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
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
    let mut seen = history::Seen::default();
    let histories = variable("AFFLUENT_TEST_HISTORIES").unwrap_or(HISTORIES);
    for number in only.map_or(0..histories, |only| only..only + 1) {
        let mut history = History::new(Chance::new(seed, number));
        if let Err(violation) = history.run() {
            panic!("AFFLUENT_TEST_SEED={seed} AFFLUENT_TEST_HISTORY={number}: {violation}");
        }
        seen.add(history.seen());
    }
    println!("{seen:?} in {:?}", started.elapsed());
    if only.is_none() {
        assert!(
            seen.is_rich(),
            "the histories are too tame to prove anything: {seen:?}"
        );
    }
    assert!(
        histories > HISTORIES || started.elapsed() < Duration::from_secs(60),
        "{HISTORIES} histories have to stay a matter of seconds"
    );
}
