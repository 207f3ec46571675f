//! The API's budget: so many users in any stretch of time as long as the window. Pure: the time is an argument.
//!
//! A token bucket would let up to twice the budget through in one window (a full bucket, then its refill), so what
//! was spent is remembered one by one, until it is a window old.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::settings::RateLimitSettings;

/// What was spent of the budget lately.
#[derive(Debug)]
pub struct RateWindow {
    users: u64,
    window: Duration,
    spent: VecDeque<(Instant, u64)>,
    sum: u64,
    /// Asked for, without an answer yet: counted, and not yet ageing.
    pending: u64,
}

impl RateWindow {
    /// A budget of which nothing is spent yet.
    #[must_use]
    pub fn new(settings: &RateLimitSettings) -> Self {
        Self {
            users: settings.users,
            window: settings.window,
            spent: VecDeque::new(),
            sum: 0,
            pending: 0,
        }
    }

    /// Notes what was spent before this process began: how long before `now`, oldest first, and how much.
    pub fn restore(&mut self, spent: impl IntoIterator<Item = (Duration, u64)>, now: Instant) {
        for (age, users) in spent {
            self.spent.push_back((now.checked_sub(age).unwrap_or(now), users));
            self.sum += users;
        }
    }

    /// The length of the window.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    /// How long to wait before asking for `users`, which must not exceed the whole budget. Longer than needed when a
    /// request under way turns out to cost nothing, so look again after each.
    pub fn wait(&mut self, users: u64, now: Instant) -> Duration {
        self.expire(now);
        let mut excess = (self.sum + self.pending + users).saturating_sub(self.users);
        for (at, spent) in &self.spent {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(*spent);
            if excess == 0 {
                return self.window.saturating_sub(now.saturating_duration_since(*at));
            }
        }
        if excess > 0 {
            return self.window;
        }
        Duration::ZERO
    }

    /// Notes that `users` are asked for.
    pub fn reserve(&mut self, users: u64) {
        self.pending += users;
    }

    /// Notes that what was asked for was handed out at the latest at `now`, or not at all.
    pub fn complete(&mut self, users: u64, served: bool, now: Instant) {
        self.pending = self.pending.saturating_sub(users);
        if served {
            self.record(users, now);
        }
    }

    /// Notes that `users` were handed out at the latest at `now`, which is not before any earlier call's.
    fn record(&mut self, users: u64, now: Instant) {
        self.expire(now);
        self.spent.push_back((now, users));
        self.sum += users;
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, users)) = self.spent.front().copied()
            && now.saturating_duration_since(at) >= self.window
        {
            self.spent.pop_front();
            self.sum -= users;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate_window() -> RateWindow {
        RateWindow::new(&RateLimitSettings {
            users: 20_000,
            window: Duration::from_secs(300),
        })
    }

    #[test]
    fn the_whole_budget_is_free_at_first_and_again_a_window_later() {
        let (mut rate_window, start) = (rate_window(), Instant::now());
        for page in 0..4 {
            let now = start + Duration::from_secs(page);
            assert_eq!(rate_window.wait(5_000, now), Duration::ZERO);
            rate_window.record(5_000, now);
        }
        let now = start + Duration::from_secs(10);
        assert_eq!(rate_window.wait(5_000, now), Duration::from_secs(290));
        assert_eq!(rate_window.wait(5_001, now), Duration::from_secs(291));
        assert_eq!(
            rate_window.wait(5_000, start + Duration::from_secs(300)),
            Duration::ZERO
        );
    }

    #[test]
    fn what_is_under_way_counts_and_what_was_refused_does_not() {
        let (mut rate_window, now) = (rate_window(), Instant::now());
        rate_window.reserve(20_000);
        assert!(rate_window.wait(1, now) > Duration::ZERO);
        rate_window.complete(20_000, false, now);
        assert_eq!(rate_window.wait(20_000, now), Duration::ZERO);
    }

    #[test]
    fn what_an_earlier_process_spent_is_not_free() {
        let (mut rate_window, now) = (rate_window(), Instant::now());
        rate_window.restore(
            [
                (Duration::from_secs(200), 15_000),
                (Duration::from_secs(10), 5_000),
            ],
            now,
        );
        assert_eq!(rate_window.wait(1, now), Duration::from_secs(100));
        assert_eq!(rate_window.wait(15_001, now), Duration::from_secs(290));
    }

    proptest! {
        #[test]
        fn no_window_ever_sees_more_than_the_budget(
            asked in prop::collection::vec((1_u64..=20_000, 0_u64..400), 1..60),
        ) {
            let (mut rate_window, start) = (rate_window(), Instant::now());
            let mut now = start;
            let mut log: Vec<(Instant, u64)> = Vec::new();
            for (users, pause) in asked {
                now += Duration::from_secs(pause);
                now += rate_window.wait(users, now);
                prop_assert_eq!(rate_window.wait(users, now), Duration::ZERO, "the wait told is enough");
                rate_window.reserve(users);
                rate_window.complete(users, true, now);
                log.push((now, users));
                let window = log.iter().filter(|(at, _)| now - *at < Duration::from_secs(300));
                prop_assert!(window.map(|(_, users)| users).sum::<u64>() <= 20_000);
            }
        }
    }
}
