//! Circuit breaker: stops requests to an API after consecutive failures, then lets one probe decide. Pure: time is an
//! argument. `retrying_fetcher` decides what counts as a failure.

use std::time::{Duration, Instant};

use crate::config::CircuitBreakerSettings;

/// Circuit breaker of the random-user API.
#[derive(Debug)]
pub struct CircuitBreaker {
    failures: u32,
    open_duration: Duration,
    state: BreakerState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerState {
    /// Number of consecutive failures.
    Closed(u32),
    /// No request until then.
    Open(Instant),
    /// One request is in flight and decides.
    Probing,
}

impl CircuitBreaker {
    /// Creates a closed breaker.
    #[must_use]
    pub fn new(settings: &CircuitBreakerSettings) -> Self {
        Self {
            failures: settings.failures,
            open_duration: settings.open_duration,
            state: BreakerState::Closed(0),
        }
    }

    /// Returns how long to wait before a request. While a probe is in flight, it is the time until the next check.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        match self.state {
            BreakerState::Closed(_) => Duration::ZERO,
            BreakerState::Open(until) => until.saturating_duration_since(now),
            BreakerState::Probing => self.open_duration,
        }
    }

    /// Whether the breaker holds requests back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.state, BreakerState::Closed(_))
    }

    /// Records a request that was sent because [`Self::wait`] returned zero.
    pub fn on_request(&mut self) {
        if self.is_open() {
            self.state = BreakerState::Probing;
        }
    }

    /// Records a response of any status.
    pub fn on_success(&mut self) {
        self.state = BreakerState::Closed(0);
    }

    /// Records a failure.
    pub fn on_failure(&mut self, now: Instant) {
        self.state = match self.state {
            BreakerState::Closed(before) if before + 1 < self.failures => BreakerState::Closed(before + 1),
            // Failures of requests that were in flight when it opened do not extend it.
            BreakerState::Open(until) => BreakerState::Open(until),
            _ => BreakerState::Open(now + self.open_duration),
        };
    }

    /// Records a request that was dropped before a response. The next request probes.
    pub fn on_cancel(&mut self, now: Instant) {
        if self.state == BreakerState::Probing {
            self.state = BreakerState::Open(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_secs(30);

    fn breaker() -> CircuitBreaker {
        CircuitBreaker::new(&CircuitBreakerSettings {
            failures: 3,
            open_duration: OPEN,
        })
    }

    #[test]
    fn consecutive_failures_open_it_and_one_probe_decides() {
        let (mut breaker, now) = (breaker(), Instant::now());
        breaker.on_failure(now);
        breaker.on_failure(now);
        breaker.on_success();
        breaker.on_failure(now);
        breaker.on_failure(now);
        assert!(!breaker.is_open() && breaker.wait(now).is_zero());
        breaker.on_failure(now);
        assert_eq!(breaker.wait(now), OPEN);
        breaker.on_failure(now + OPEN / 2);
        assert_eq!(breaker.wait(now + OPEN), Duration::ZERO);
        breaker.on_request();
        assert!(
            !breaker.wait(now + OPEN).is_zero(),
            "other requests wait for the probe"
        );
        breaker.on_failure(now + OPEN);
        assert_eq!(breaker.wait(now + OPEN), OPEN);
        breaker.on_request();
        breaker.on_success();
        assert!(!breaker.is_open());
    }

    #[test]
    fn dropped_probe_allows_the_next_one() {
        let (mut breaker, now) = (breaker(), Instant::now());
        (0..3).for_each(|_| breaker.on_failure(now));
        breaker.on_request();
        breaker.on_cancel(now + OPEN);
        assert_eq!(breaker.wait(now + OPEN), Duration::ZERO);
    }
}
