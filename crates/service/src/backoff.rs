//! Exponential back-off with jitter, without an end: who gives up, and when, is the caller's decision.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use serde::{Deserialize, Serialize};

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backoff {
    /// The first wait; each next one is twice as long. Above zero.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub initial: Duration,
    /// No wait is longer than this (jitter takes away, it never adds).
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(50),
            max: Duration::from_secs(1),
        }
    }
}

impl Backoff {
    /// The waits, one for each failed attempt, for ever. Each lies between half and the whole of
    /// the exponential step, so that many clients of one server don't return at the same moment.
    pub fn delays(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        // backon adds between nothing and the whole delay as jitter: halving the steps keeps the
        // sum at or below the bound.
        ExponentialBuilder::default()
            .with_min_delay(self.initial / 2)
            .with_max_delay(self.max / 2)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_never_end() {
        let backoff = Backoff {
            initial: Duration::from_millis(10),
            max: Duration::from_millis(80),
        };
        let delays: Vec<_> = backoff.delays().take(500).collect();
        assert_eq!(delays.len(), 500);
        assert!(delays[0] >= Duration::from_millis(5) && delays[0] <= Duration::from_millis(10));
        assert!(delays.iter().all(|delay| *delay <= backoff.max));
        assert!(delays[10..].iter().all(|delay| *delay >= backoff.max / 2));
    }
}
