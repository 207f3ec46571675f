//! Tracks the last poll of the consumer. Only a restart helps if polling stops while the process lives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time of the last poll. The consumer thread writes it and `/healthz` reads it. The clock is monotonic, so a step of
/// the wall clock is no gap.
#[derive(Debug)]
pub struct LastPoll {
    started: Instant,
    /// When the consumer polled last, in microseconds since `started`.
    at: AtomicU64,
    /// The longest gap between two polls since the last call of [`LastPoll::longest_gap`], in microseconds.
    longest: AtomicU64,
}

impl Default for LastPoll {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            at: AtomicU64::new(Self::NONE),
            longest: AtomicU64::new(0),
        }
    }
}

impl LastPoll {
    /// A poll waits at most half a second for the pipeline, and `kafka.revoke_timeout` for a revocation.
    const MAX_GAP: Duration = Duration::from_secs(60);
    /// No consumer is running.
    const NONE: u64 = u64::MAX;

    /// # Errors
    /// The gap, when it is too long.
    pub fn check(&self) -> Result<(), String> {
        self.check_at(Instant::now())
    }

    fn check_at(&self, now: Instant) -> Result<(), String> {
        let gap = self.gap(now);
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
    fn gap(&self, now: Instant) -> Duration {
        match self.at.load(Ordering::Relaxed) {
            Self::NONE => Duration::ZERO,
            last => Duration::from_micros(self.micros(now).saturating_sub(last)),
        }
    }

    /// Returns the longest gap between two polls since the last call, including the current one.
    pub fn longest_gap(&self) -> Duration {
        let longest = self.longest.swap(0, Ordering::Relaxed);
        self.gap(Instant::now()).max(Duration::from_micros(longest))
    }

    /// Records a poll.
    pub(super) fn polled(&self) {
        self.polled_at(Instant::now());
    }

    fn polled_at(&self, now: Instant) {
        let gap = u64::try_from(self.gap(now).as_micros()).unwrap_or(u64::MAX);
        self.longest.fetch_max(gap, Ordering::Relaxed);
        self.at.store(self.micros(now), Ordering::Relaxed);
    }

    /// Records that the consumer has ended.
    pub(super) fn ended(&self) {
        self.at.store(Self::NONE, Ordering::Relaxed);
    }

    fn micros(&self, now: Instant) -> u64 {
        let since_start = now.saturating_duration_since(self.started);
        u64::try_from(since_start.as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_polls_fail_the_check_unless_the_consumer_ended() {
        let last = LastPoll::default();
        let now = Instant::now();
        assert!(last.check_at(now + Duration::from_secs(100)).is_ok());
        last.polled_at(now);
        assert!(last.check_at(now + Duration::from_secs(59)).is_ok());
        assert_eq!(
            last.check_at(now + Duration::from_secs(61)),
            Err("the kafka consumer has not polled for 61 s".to_owned())
        );
        last.ended();
        assert!(last.check_at(now + Duration::from_secs(61)).is_ok());
    }

    #[test]
    fn longest_gap_is_reported_once() {
        let last = LastPoll::default();
        let now = Instant::now();
        last.polled_at(now);
        last.polled_at(now + Duration::from_secs(3));
        last.polled_at(now + Duration::from_secs(4));
        assert_eq!(last.longest_gap().as_secs(), 3);
        assert_eq!(last.longest_gap().as_secs(), 0);
    }
}
