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

use std::time::{Duration, Instant};

use testkit::seeded_random::SeededRandom;
use testkit::workspace::is_full_test_run;

use crate::history::History;

/// In the full test run; a third of them otherwise.
const HISTORIES: u64 = 9_000;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap())
}

#[test]
fn checkpoint_is_durable_prefix_and_table_matches_log() {
    let seed = SeededRandom::seed("histories");
    let only = variable("AFFLUENT_TEST_HISTORY");
    let started = Instant::now();
    let mut coverage = history::Coverage::default();
    let usual = if is_full_test_run() {
        HISTORIES
    } else {
        HISTORIES / 3
    };
    let histories = variable("AFFLUENT_TEST_HISTORIES").unwrap_or(usual);
    for number in only.map_or(0..histories, |only| only..only + 1) {
        let mut history = History::new(SeededRandom::from_seed(seed, number));
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
