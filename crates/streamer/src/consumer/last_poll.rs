//! Tracks the last poll of the consumer. Only a restart helps if polling stops while the process lives.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::pipeline::write_timestamp::wall_micros;

/// The time of the last poll. The consumer thread writes it and `/healthz` reads it.
#[derive(Debug, Default)]
pub struct LastPoll {
    at: AtomicI64,
    /// The longest gap between two polls since the last call of [`LastPoll::longest_gap`], in microseconds.
    longest: AtomicI64,
}

impl LastPoll {
    /// A poll waits at most half a second for the pipeline, and `kafka.revoke_timeout` for a revocation.
    const MAX_GAP: Duration = Duration::from_secs(60);
    /// No consumer is running.
    const NONE: i64 = 0;

    /// # Errors
    /// The gap, when it is too long.
    pub fn check(&self) -> Result<(), String> {
        let gap = self.gap();
        if gap < Self::MAX_GAP {
            Ok(())
        } else {
            Err(format!(
                "the kafka consumer has not polled for {} s",
                gap.as_secs()
            ))
        }
    }

    /// Returns the time since the last poll, or zero if no consumer is running.
    pub fn gap(&self) -> Duration {
        match self.at.load(Ordering::Relaxed) {
            Self::NONE => Duration::ZERO,
            last => Duration::from_micros((wall_micros() - last).max(0).cast_unsigned()),
        }
    }

    /// Returns the longest gap between two polls since the last call, including the current one.
    pub fn longest_gap(&self) -> Duration {
        let longest = self.longest.swap(0, Ordering::Relaxed);
        self.gap()
            .max(Duration::from_micros(longest.max(0).cast_unsigned()))
    }

    /// Records a poll.
    pub(super) fn polled(&self) {
        let gap = i64::try_from(self.gap().as_micros()).unwrap_or(i64::MAX);
        self.longest.fetch_max(gap, Ordering::Relaxed);
        self.at.store(wall_micros(), Ordering::Relaxed);
    }

    /// Records that the consumer has ended.
    pub(super) fn ended(&self) {
        self.at.store(Self::NONE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_polls_fail_the_check_unless_the_consumer_ended() {
        let last = LastPoll::default();
        assert!(last.check().is_ok());
        last.polled();
        assert!(last.check().is_ok());
        last.at.store(wall_micros() - 61_000_000, Ordering::Relaxed);
        assert_eq!(
            last.check(),
            Err("the kafka consumer has not polled for 61 s".to_owned())
        );
        last.ended();
        assert!(last.check().is_ok());
    }

    #[test]
    fn longest_gap_is_reported_once() {
        let last = LastPoll::default();
        last.at.store(wall_micros() - 3_000_000, Ordering::Relaxed);
        last.polled();
        last.polled();
        assert_eq!(last.longest_gap().as_secs(), 3);
        assert_eq!(last.longest_gap().as_secs(), 0);
    }
}
