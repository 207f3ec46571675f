//! A circuit breaker: after so many failures in a row an API is left alone for a while, then asked once. Pure: the time
//! is an argument. What is a failure is decided in `source`.

use std::time::{Duration, Instant};

use crate::settings::CircuitBreakerSettings;

/// Whether the API may be asked.
#[derive(Debug)]
pub struct Breaker {
    failures: u32,
    open_duration: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many failures in a row.
    Closed(u32),
    /// Nothing is asked until then.
    Open(Instant),
    /// One request is under way, and decides.
    Probing,
}

impl Breaker {
    /// A breaker that has seen no failure.
    #[must_use]
    pub fn new(settings: &CircuitBreakerSettings) -> Self {
        Self {
            failures: settings.failures,
            open_duration: settings.open_duration,
            state: State::Closed(0),
        }
    }

    /// How long to wait before asking; while a single request decides, that long before looking again.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        match self.state {
            State::Closed(_) => Duration::ZERO,
            State::Open(until) => until.saturating_duration_since(now),
            State::Probing => self.open_duration,
        }
    }

    /// Whether it keeps requests back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed(_))
    }

    /// A request goes out, after no wait was told.
    pub fn asked(&mut self) {
        if self.is_open() {
            self.state = State::Probing;
        }
    }

    /// It was answered, whatever the answer.
    pub fn succeeded(&mut self) {
        self.state = State::Closed(0);
    }

    /// It failed.
    pub fn failed(&mut self, now: Instant) {
        self.state = match self.state {
            State::Closed(before) if before + 1 < self.failures => State::Closed(before + 1),
            // Those that were under way when it opened change nothing.
            State::Open(until) => State::Open(until),
            _ => State::Open(now + self.open_duration),
        };
    }

    /// It was abandoned before an answer: the next one decides.
    pub fn abandoned(&mut self, now: Instant) {
        if self.state == State::Probing {
            self.state = State::Open(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn breaker() -> Breaker {
        Breaker::new(&CircuitBreakerSettings {
            failures: 3,
            open_duration: PAUSE,
        })
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_request_decide() {
        let (mut breaker, now) = (breaker(), Instant::now());
        breaker.failed(now);
        breaker.failed(now);
        breaker.succeeded();
        breaker.failed(now);
        breaker.failed(now);
        assert!(!breaker.is_open() && breaker.wait(now).is_zero());
        breaker.failed(now);
        assert_eq!(breaker.wait(now), PAUSE);
        breaker.failed(now + PAUSE / 2);
        assert_eq!(breaker.wait(now + PAUSE), Duration::ZERO);
        breaker.asked();
        assert!(
            !breaker.wait(now + PAUSE).is_zero(),
            "the others wait for the probe"
        );
        breaker.failed(now + PAUSE);
        assert_eq!(breaker.wait(now + PAUSE), PAUSE);
        breaker.asked();
        breaker.succeeded();
        assert!(!breaker.is_open());
    }

    #[test]
    fn an_abandoned_probe_blocks_nobody() {
        let (mut breaker, now) = (breaker(), Instant::now());
        (0..3).for_each(|_| breaker.failed(now));
        breaker.asked();
        breaker.abandoned(now + PAUSE);
        assert_eq!(breaker.wait(now + PAUSE), Duration::ZERO);
    }
}
