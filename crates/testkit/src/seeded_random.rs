//! Random values with a printed seed. `AFFLUENT_TEST_SEED=<seed>` repeats a failed test.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::time::Duration;

use rand::distr::uniform::SampleUniform;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// A seeded random number generator.
pub struct SeededRandom(StdRng);

impl SeededRandom {
    /// Creates a generator with the [`seed`](Self::seed) of a test.
    pub fn new(test: &str) -> Self {
        Self::from_seed(Self::seed(test), 0)
    }

    /// Returns the seed from the environment, otherwise a random one. Prints it with the test's name.
    pub fn seed(test: &str) -> u64 {
        let seed = match std::env::var("AFFLUENT_TEST_SEED") {
            Ok(text) => text.parse().expect("AFFLUENT_TEST_SEED is a number"),
            Err(_) => RandomState::new().hash_one(test),
        };
        println!("{test}: AFFLUENT_TEST_SEED={seed}");
        seed
    }

    /// Creates a generator whose values `seed` and `number` determine.
    pub fn from_seed(seed: u64, number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        Self(StdRng::from_seed(bytes))
    }

    /// Returns a number in `range`.
    pub fn number<T: SampleUniform + PartialOrd>(&mut self, range: Range<T>) -> T {
        self.0.random_range(range)
    }

    /// Returns an index below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.number(0..end)
    }

    /// Returns true once in `times` calls, on average.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Returns a duration whose milliseconds are in `range`.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.number(range))
    }
}
