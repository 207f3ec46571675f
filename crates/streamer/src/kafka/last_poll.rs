//! When the consumer was last polled: a poll that stops while the process lives is cured only by a restart.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::clock::wall_micros;

/// Written by the consumer's thread, read by `/healthz`.
#[derive(Debug, Default)]
pub struct LastPoll {
    at: AtomicI64,
    /// The longest time between two polls since it was last asked for, in microseconds.
    longest: AtomicI64,
}

impl LastPoll {
    /// The poll waits for the pipeline for half a second at most, and for a revocation for its deadline.
    const LONGEST_GAP: Duration = Duration::from_secs(60);
    /// There is no consumer that should poll.
    const NONE: i64 = 0;

    /// # Errors
    /// The gap, when it is too long.
    pub fn check(&self) -> Result<(), String> {
        let gap = self.gap();
        if gap < Self::LONGEST_GAP {
            Ok(())
        } else {
            Err(format!("no poll for {} s", gap.as_secs()))
        }
    }

    /// How long ago it was; none, while there is no consumer.
    pub fn gap(&self) -> Duration {
        match self.at.load(Ordering::Relaxed) {
            Self::NONE => Duration::ZERO,
            last => Duration::from_micros((wall_micros() - last).max(0).cast_unsigned()),
        }
    }

    /// The longest time between two polls since this was last asked for, the present one among them.
    pub fn longest_gap(&self) -> Duration {
        let longest = self.longest.swap(0, Ordering::Relaxed);
        self.gap()
            .max(Duration::from_micros(longest.max(0).cast_unsigned()))
    }

    /// Now.
    pub(super) fn polled(&self) {
        let gap = i64::try_from(self.gap().as_micros()).unwrap_or(i64::MAX);
        self.longest.fetch_max(gap, Ordering::Relaxed);
        self.at.store(wall_micros(), Ordering::Relaxed);
    }

    /// It will be no more.
    pub(super) fn ended(&self) {
        self.at.store(Self::NONE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_that_stopped_is_told_and_a_consumer_that_ended_is_not_missed() {
        let last = LastPoll::default();
        assert!(last.check().is_ok());
        last.polled();
        assert!(last.check().is_ok());
        last.at.store(wall_micros() - 61_000_000, Ordering::Relaxed);
        assert_eq!(last.check(), Err("no poll for 61 s".to_owned()));
        last.ended();
        assert!(last.check().is_ok());
    }

    #[test]
    fn the_longest_gap_is_told_once() {
        let last = LastPoll::default();
        last.at.store(wall_micros() - 3_000_000, Ordering::Relaxed);
        last.polled();
        last.polled();
        assert_eq!(last.longest_gap().as_secs(), 3);
        assert_eq!(last.longest_gap().as_secs(), 0);
    }
}
