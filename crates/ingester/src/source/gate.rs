//! When the next request to the API may go out: budget, breaker, and what the API itself asked for. Pure.

use std::time::{Duration, Instant};

use crate::breaker::Breaker;
use crate::budget::Budget;

/// When the next request may go out.
pub(super) struct Gate {
    pub(super) budget: Budget,
    pub(super) breaker: Breaker,
    /// The API itself asked to wait until then.
    pub(super) throttled_until: Option<Instant>,
}

/// What keeps a request back.
pub(super) enum Kept {
    Budget(Duration),
    Breaker(Duration),
}

impl Gate {
    pub(super) fn keeps(&mut self, users: u64, now: Instant) -> Option<Kept> {
        let told = self
            .throttled_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let budget = self.budget.wait(users, now).max(told);
        let breaker = self.breaker.wait(now);
        if !budget.is_zero() {
            Some(Kept::Budget(budget))
        } else if !breaker.is_zero() {
            Some(Kept::Breaker(breaker))
        } else {
            None
        }
    }
}
