//! When the next request to the API may go out: budget, breaker, and what the API itself asked for. Pure.

use std::time::{Duration, Instant};

use crate::fetch::circuit_breaker::CircuitBreaker;
use crate::fetch::rate_window::RateWindow;

/// When the next request may go out.
pub(super) struct RequestLimiter {
    pub(super) rate_window: RateWindow,
    pub(super) breaker: CircuitBreaker,
    /// The API itself asked to wait until then.
    pub(super) retry_after: Option<Instant>,
}

/// What keeps a request back.
pub(super) enum Throttle {
    RateLimit(Duration),
    CircuitBreaker(Duration),
}

impl RequestLimiter {
    pub(super) fn throttle(&mut self, users: u64, now: Instant) -> Option<Throttle> {
        let server_wait = self
            .retry_after
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let rate_window = self.rate_window.wait(users, now).max(server_wait);
        let breaker = self.breaker.wait(now);
        if !rate_window.is_zero() {
            Some(Throttle::RateLimit(rate_window))
        } else if !breaker.is_zero() {
            Some(Throttle::CircuitBreaker(breaker))
        } else {
            None
        }
    }
}
