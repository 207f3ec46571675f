//! Random values with a printed seed. `AFFLUENT_TEST_SEED=<seed>` repeats a failed run.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// A seeded random number generator.
pub(crate) struct SeededRandom(TestRng);

impl SeededRandom {
    /// Seeds the generator from the environment, otherwise randomly. Prints the seed with the test's name.
    pub(crate) fn new(test: &str) -> Self {
        let seed = match std::env::var("AFFLUENT_TEST_SEED") {
            Ok(text) => text.parse().unwrap(),
            Err(_) => RandomState::new().hash_one(test),
        };
        println!("{test}: AFFLUENT_TEST_SEED={seed}");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// Returns a number in `range`.
    pub(crate) fn number(&mut self, range: Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// Returns a duration whose milliseconds are in `range`.
    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.number(range))
    }
}
