//! Decides when the next request to the API may be sent: rate limit, circuit breaker and `Retry-After`. Pure.

use std::time::{Duration, Instant};

use crate::fetch::circuit_breaker::CircuitBreaker;
use crate::fetch::rate_window::RateWindow;

/// Limits requests to the API.
pub(super) struct RequestLimiter {
    pub(super) rate_window: RateWindow,
    pub(super) breaker: CircuitBreaker,
    /// The API requested no call before then.
    pub(super) retry_after: Option<Instant>,
}

/// Why a request must wait, and for how long.
pub(super) enum Throttle {
    RateLimit(Duration),
    CircuitBreaker(Duration),
}

impl RequestLimiter {
    /// Sends no request for `wait` from `now`. A later time that is already set remains.
    pub(super) fn extend_retry_after(&mut self, wait: Duration, now: Instant) {
        self.retry_after = self.retry_after.max(now.checked_add(wait));
    }

    /// Returns why a request for `users` must wait, or `None` when it may be sent.
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
