//! The rate limit of users per client address. Takes the time as an argument.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// A limit on the users of one client address. Refused requests do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Users per window; 20,000 at the real API.
    pub users: usize,
    /// Length of the window, which begins with the address's first request; 5 minutes at the real API.
    pub window: Duration,
    /// The response to a refused request.
    pub reply: RateLimitReply,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            users: 20_000,
            window: Duration::from_secs(300),
            reply: RateLimitReply::TooManyRequests,
        }
    }
}

/// The response to a request above the limit; never with `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitReply {
    /// 429, as the real API today.
    TooManyRequests,
    /// 503, as its older deployments.
    Unavailable,
}

/// The users of each address in its window.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    limit: Option<RateLimit>,
    windows: HashMap<IpAddr, CallerWindow>,
}

#[derive(Debug)]
struct CallerWindow {
    since: Instant,
    used: usize,
}

impl RateLimiter {
    /// Maximum number of addresses. One more resets all of them.
    const MAX_WINDOWS: usize = 1_024;

    pub(crate) fn new(limit: Option<RateLimit>) -> Self {
        Self {
            limit,
            windows: HashMap::new(),
        }
    }

    /// Counts `users` for this address, or refuses them.
    pub(crate) fn acquire(
        &mut self,
        address: IpAddr,
        users: usize,
        now: Instant,
    ) -> Result<(), RateLimitReply> {
        let Some(limit) = self.limit else { return Ok(()) };
        self.windows
            .retain(|_, window| now.duration_since(window.since) < limit.window);
        if self.windows.len() >= Self::MAX_WINDOWS && !self.windows.contains_key(&address) {
            self.windows.clear();
        }
        let window = self
            .windows
            .entry(address)
            .or_insert(CallerWindow { since: now, used: 0 });
        if window.used + users > limit.users {
            return Err(limit.reply);
        }
        window.used += users;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

    #[test]
    fn address_gets_its_limit_again_in_the_next_window() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(Some(RateLimit::default()));
        for _ in 0..4 {
            assert_eq!(limiter.acquire(HERE, 5_000, start), Ok(()));
        }
        assert_eq!(
            limiter.acquire(HERE, 1, start + Duration::from_secs(299)),
            Err(RateLimitReply::TooManyRequests)
        );
        assert_eq!(limiter.acquire(THERE, 1, start), Ok(()));
        assert_eq!(limiter.acquire(HERE, 1, start + Duration::from_secs(300)), Ok(()));
    }

    #[test]
    fn refused_request_does_not_count() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(Some(RateLimit {
            users: 10,
            ..RateLimit::default()
        }));
        assert!(limiter.acquire(HERE, 11, start).is_err());
        assert_eq!(limiter.acquire(HERE, 10, start), Ok(()));
    }

    #[test]
    fn windows_are_bounded() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(Some(RateLimit::default()));
        for host in 0..5_000_u32 {
            assert_eq!(limiter.acquire(Ipv4Addr::from(host).into(), 1, start), Ok(()));
        }
        assert!(limiter.windows.len() <= RateLimiter::MAX_WINDOWS);
    }
}
