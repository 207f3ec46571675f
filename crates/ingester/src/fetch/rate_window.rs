//! Sliding-window rate limit: at most so many users in any period of the window's length. Pure: time is an argument.
//!
//! A token bucket would allow twice the limit in one window (a full bucket plus its refill). So each request is kept until
//! it is a window old.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::RateLimitSettings;

/// Users requested within the window.
#[derive(Debug)]
pub struct RateWindow {
    users: u64,
    window: Duration,
    served: VecDeque<(Instant, u64)>,
    sum: u64,
    /// Users of requests in flight; they count, but do not age yet.
    in_flight: u64,
}

impl RateWindow {
    /// Creates an empty window.
    #[must_use]
    pub fn new(settings: &RateLimitSettings) -> Self {
        Self {
            users: settings.users,
            window: settings.window,
            served: VecDeque::new(),
            sum: 0,
            in_flight: 0,
        }
    }

    /// Adds usage of an earlier process: its age before `now`, oldest first, and the number of users.
    pub fn restore(&mut self, usage: impl IntoIterator<Item = (Duration, u64)>, now: Instant) {
        for (age, users) in usage {
            self.served
                .push_back((now.checked_sub(age).unwrap_or(now), users));
            self.sum += users;
        }
    }

    /// Returns how long to wait before requesting `users`, which must not exceed the limit. An upper bound: a request in
    /// flight may turn out to consume nothing, so check again after each response.
    pub fn wait(&mut self, users: u64, now: Instant) -> Duration {
        self.expire(now);
        let mut excess = (self.sum + self.in_flight + users).saturating_sub(self.users);
        for (at, served) in &self.served {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(*served);
            if excess == 0 {
                return self.window.saturating_sub(now.saturating_duration_since(*at));
            }
        }
        if excess > 0 {
            return self.window;
        }
        Duration::ZERO
    }

    /// Records that `users` are requested.
    pub fn reserve(&mut self, users: u64) {
        self.in_flight += users;
    }

    /// Records the end of a request at `now`: its users were served, or not.
    pub fn complete(&mut self, users: u64, served: bool, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(users);
        if served {
            self.record(users, now);
        }
    }

    /// Records served users. `now` must not decrease between calls.
    fn record(&mut self, users: u64, now: Instant) {
        self.expire(now);
        self.served.push_back((now, users));
        self.sum += users;
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, users)) = self.served.front().copied()
            && now.saturating_duration_since(at) >= self.window
        {
            self.served.pop_front();
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
    fn full_limit_is_available_again_after_a_window() {
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
    fn requests_in_flight_count_and_failed_ones_do_not() {
        let (mut rate_window, now) = (rate_window(), Instant::now());
        rate_window.reserve(20_000);
        assert!(rate_window.wait(1, now) > Duration::ZERO);
        rate_window.complete(20_000, false, now);
        assert_eq!(rate_window.wait(20_000, now), Duration::ZERO);
    }

    #[test]
    fn usage_of_an_earlier_process_counts() {
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
        fn no_window_exceeds_the_limit(
            requests in prop::collection::vec((1_u64..=20_000, 0_u64..400), 1..60),
        ) {
            let (mut rate_window, start) = (rate_window(), Instant::now());
            let mut now = start;
            let mut log: Vec<(Instant, u64)> = Vec::new();
            for (users, gap) in requests {
                now += Duration::from_secs(gap);
                now += rate_window.wait(users, now);
                prop_assert_eq!(rate_window.wait(users, now), Duration::ZERO, "the returned wait suffices");
                rate_window.reserve(users);
                rate_window.complete(users, true, now);
                log.push((now, users));
                let window = log.iter().filter(|(at, _)| now - *at < Duration::from_secs(300));
                prop_assert!(window.map(|(_, users)| users).sum::<u64>() <= 20_000);
            }
        }
    }
}
