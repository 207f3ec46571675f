//! Exponential back-off with jitter. It never ends: the caller limits the attempts.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use serde::{Deserialize, Serialize};

/// The delays between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backoff {
    /// The first delay; each following one is twice as long. Above zero.
    #[serde(with = "crate::duration")]
    pub initial: Duration,
    /// The longest delay, jitter included.
    #[serde(with = "crate::duration")]
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
    /// The text of the rule that [`is_valid`](Self::is_valid) checks.
    pub const RULE: &str = "must be above zero and at most the max of the same back-off";

    /// Whether the first delay is above zero and at most the longest.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.initial.is_zero() && self.initial <= self.max
    }

    /// The delays, one for each failed attempt, without an end. Each is between half and all of the exponential step,
    /// so that the clients of a server don't retry at the same moment.
    pub fn delays(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        // backon adds up to the whole delay as jitter. Half the step keeps the sum within the bound.
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
    fn delays_grow_to_the_maximum_and_never_end() {
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
