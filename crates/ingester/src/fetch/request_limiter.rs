//! When the next request to the API may go out: budget, breaker, and what the API itself asked for. Pure.

use std::time::{Duration, Instant};

use crate::fetch::circuit_breaker::CircuitBreaker;
use crate::fetch::rate_window::Budget;

/// When the next request may go out.
pub(super) struct RequestLimiter {
    pub(super) budget: RateWindow,
    pub(super) breaker: CircuitBreaker,
    /// The API itself asked to wait until then.
    pub(super) throttled_until: Option<Instant>,
}

/// What keeps a request back.
pub(super) enum Throttle {
    RateLimit(Duration),
    CircuitBreaker(Duration),
}

impl RequestLimiter {
    pub(super) fn keeps(&mut self, users: u64, now: Instant) -> Option<Throttle> {
        let told = self
            .throttled_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let budget = self.budget.wait(users, now).max(told);
        let breaker = self.breaker.wait(now);
        if !budget.is_zero() {
            Some(Throttle::RateLimit(budget))
        } else if !breaker.is_zero() {
            Some(Throttle::CircuitBreaker(breaker))
        } else {
            None
        }
    }
}
