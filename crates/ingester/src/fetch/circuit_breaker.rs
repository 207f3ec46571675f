//! A circuit breaker: after so many failures in a row an API is left alone for a while, then asked once. Pure: the time
//! is an argument. What is a failure is decided in `source`.

use std::time::{Duration, Instant};

use crate::settings::CircuitBreakerSettings;

/// Whether the API may be asked.
#[derive(Debug)]
pub struct CircuitBreaker {
    failures: u32,
    open_duration: Duration,
    state: BreakerState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerState {
    /// So many failures in a row.
    Closed(u32),
    /// Nothing is asked until then.
    Open(Instant),
    /// One request is under way, and decides.
    Probing,
}

impl CircuitBreaker {
    /// A breaker that has seen no failure.
    #[must_use]
    pub fn new(settings: &CircuitBreakerSettings) -> Self {
        Self {
            failures: settings.failures,
            open_duration: settings.open_duration,
            state: BreakerState::Closed(0),
        }
    }

    /// How long to wait before asking; while a single request decides, that long before looking again.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        match self.state {
            BreakerState::Closed(_) => Duration::ZERO,
            BreakerState::Open(until) => until.saturating_duration_since(now),
            BreakerState::Probing => self.open_duration,
        }
    }

    /// Whether it keeps requests back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.state, BreakerState::Closed(_))
    }

    /// A request goes out, after no wait was told.
    pub fn on_request(&mut self) {
        if self.is_open() {
            self.state = BreakerState::Probing;
        }
    }

    /// It was answered, whatever the answer.
    pub fn on_success(&mut self) {
        self.state = BreakerState::Closed(0);
    }

    /// It failed.
    pub fn on_failure(&mut self, now: Instant) {
        self.state = match self.state {
            BreakerState::Closed(before) if before + 1 < self.failures => BreakerState::Closed(before + 1),
            // Those that were under way when it opened change nothing.
            BreakerState::Open(until) => BreakerState::Open(until),
            _ => BreakerState::Open(now + self.open_duration),
        };
    }

    /// It was abandoned before an answer: the next one decides.
    pub fn on_cancel(&mut self, now: Instant) {
        if self.state == BreakerState::Probing {
            self.state = BreakerState::Open(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn breaker() -> CircuitBreaker {
        CircuitBreaker::new(&CircuitBreakerSettings {
            failures: 3,
            open_duration: PAUSE,
        })
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_request_decide() {
        let (mut breaker, now) = (breaker(), Instant::now());
        breaker.on_failure(now);
        breaker.on_failure(now);
        breaker.on_success();
        breaker.on_failure(now);
        breaker.on_failure(now);
        assert!(!breaker.is_open() && breaker.wait(now).is_zero());
        breaker.on_failure(now);
        assert_eq!(breaker.wait(now), PAUSE);
        breaker.on_failure(now + PAUSE / 2);
        assert_eq!(breaker.wait(now + PAUSE), Duration::ZERO);
        breaker.on_request();
        assert!(
            !breaker.wait(now + PAUSE).is_zero(),
            "the others wait for the probe"
        );
        breaker.on_failure(now + PAUSE);
        assert_eq!(breaker.wait(now + PAUSE), PAUSE);
        breaker.on_request();
        breaker.on_success();
        assert!(!breaker.is_open());
    }

    #[test]
    fn an_abandoned_probe_blocks_nobody() {
        let (mut breaker, now) = (breaker(), Instant::now());
        (0..3).for_each(|_| breaker.on_failure(now));
        breaker.on_request();
        breaker.on_cancel(now + PAUSE);
        assert_eq!(breaker.wait(now + PAUSE), Duration::ZERO);
    }
}
