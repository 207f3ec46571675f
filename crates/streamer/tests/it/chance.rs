//! Chance with a seed that is printed, so that a run that failed can be made again with `AFFLUENT_TEST_SEED=<seed>`.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// A source of random values.
pub(crate) struct Chance(TestRng);

impl Chance {
    /// From the seed of the environment, or another one each time; it is printed beside `what`.
    pub(crate) fn new(what: &str) -> Self {
        let seed = match std::env::var("AFFLUENT_TEST_SEED") {
            Ok(text) => text.parse().unwrap(),
            Err(_) => RandomState::new().hash_one(what),
        };
        println!("{what}: AFFLUENT_TEST_SEED={seed}");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// A number of the range.
    pub(crate) fn number(&mut self, range: Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// A time of so many milliseconds.
    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.number(range))
    }
}
