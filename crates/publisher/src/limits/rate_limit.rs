//! The rate limit of one caller, in requests and in bytes a second. It does not affect other callers.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, NotUntil, Quota, RateLimiter};
use thiserror::Error;

use crate::config::RateLimitSettings;

/// The rate limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the rate limit of this caller is exceeded")]
pub struct RateLimited {
    /// When the caller may retry.
    pub retry_after: Duration,
}

/// The rate limiter of one caller; none where the rate is not limited.
pub struct CallerRateLimiter {
    requests: Option<DefaultDirectRateLimiter>,
    bytes: Option<DefaultDirectRateLimiter>,
}

impl CallerRateLimiter {
    /// A limiter that allows a burst of one second, or of one body of `largest_body` bytes.
    pub fn new(settings: &RateLimitSettings, largest_body: usize) -> Self {
        let bytes = u32::try_from(settings.bytes_per_second.as_u64()).unwrap_or(u32::MAX);
        let largest_body = u32::try_from(largest_body).unwrap_or(u32::MAX);
        Self {
            requests: limiter(settings.requests_per_second, 1),
            bytes: limiter(bytes, largest_body),
        }
    }

    /// Takes one request.
    ///
    /// # Errors
    /// [`RateLimited`].
    pub fn take_request(&self) -> Result<(), RateLimited> {
        self.requests.as_ref().map_or(Ok(()), |limiter| {
            limiter.check().map_err(|not_until| rate_limited(&not_until))
        })
    }

    /// Takes that many bytes.
    ///
    /// # Errors
    /// [`RateLimited`].
    pub fn take_bytes(&self, count: usize) -> Result<(), RateLimited> {
        let count = NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX));
        let (Some(limiter), Some(count)) = (&self.bytes, count) else {
            return Ok(());
        };
        match limiter.check_n(count) {
            Ok(result) => result.map_err(|not_until| rate_limited(&not_until)),
            // Unreachable for an accepted body: the burst holds the largest one.
            Err(_) => Err(RateLimited {
                retry_after: Duration::from_secs(1),
            }),
        }
    }
}

fn limiter(per_second: u32, burst: u32) -> Option<DefaultDirectRateLimiter> {
    let rate = NonZeroU32::new(per_second)?;
    let burst = NonZeroU32::new(burst).map_or(rate, |burst| burst.max(rate));
    Some(RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)))
}

fn rate_limited(not_until: &NotUntil<<DefaultClock as Clock>::Instant>) -> RateLimited {
    RateLimited {
        retry_after: not_until.wait_time_from(DefaultClock::default().now()),
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;

    fn limiter(requests: u32, bytes: u64) -> CallerRateLimiter {
        let settings = RateLimitSettings {
            requests_per_second: requests,
            bytes_per_second: ByteSize(bytes),
        };
        CallerRateLimiter::new(&settings, 1_000)
    }

    #[test]
    fn burst_of_one_second_is_allowed() {
        let limiter = limiter(3, 0);
        for _ in 0..3 {
            limiter.take_request().unwrap();
        }
        let limited = limiter.take_request().unwrap_err();
        assert!(limited.retry_after <= Duration::from_millis(334));
        assert_eq!(limiter.take_bytes(usize::MAX), Ok(()), "bytes are not limited");
    }

    #[test]
    fn largest_body_fits_a_lower_rate_once() {
        let limiter = limiter(0, 100);
        limiter.take_bytes(1_000).unwrap();
        let limited = limiter.take_bytes(100).unwrap_err();
        assert!(limited.retry_after > Duration::from_millis(500));
        assert!(limiter.take_bytes(5_000).is_err());
        assert_eq!(limiter.take_bytes(0), Ok(()));
        for _ in 0..1_000 {
            limiter.take_request().unwrap();
        }
    }
}
