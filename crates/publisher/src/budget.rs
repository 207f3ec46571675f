//! What one caller may do per second, in requests and in bytes. A caller's fault is its own: it hears 429, the
//! others hear nothing of it.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, NotUntil, Quota, RateLimiter};
use thiserror::Error;

use crate::settings::RateLimitSettings;

/// The budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the budget of this caller is spent")]
pub struct Spent {
    /// When there is enough again.
    pub retry_after: Duration,
}

/// The budget of one caller; what is not limited has no limiter.
pub struct Budget {
    requests: Option<DefaultDirectRateLimiter>,
    bytes: Option<DefaultDirectRateLimiter>,
}

impl Budget {
    /// A full budget. A burst may be as large as a second's worth, or as one body of `largest_body` bytes.
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
    /// [`Spent`].
    pub fn take_request(&self) -> Result<(), Spent> {
        self.requests.as_ref().map_or(Ok(()), |limiter| {
            limiter.check().map_err(|not_until| spent(&not_until))
        })
    }

    /// Takes that many bytes.
    ///
    /// # Errors
    /// [`Spent`].
    pub fn take_bytes(&self, count: usize) -> Result<(), Spent> {
        let count = NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX));
        let (Some(limiter), Some(count)) = (&self.bytes, count) else {
            return Ok(());
        };
        match limiter.check_n(count) {
            Ok(taken) => taken.map_err(|not_until| spent(&not_until)),
            // The burst holds the largest body, so this is none that was let in.
            Err(_) => Err(Spent {
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

fn spent(not_until: &NotUntil<<DefaultClock as Clock>::Instant>) -> Spent {
    Spent {
        retry_after: not_until.wait_time_from(DefaultClock::default().now()),
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;

    fn budget(requests: u32, bytes: u64) -> Budget {
        let settings = RateLimitSettings {
            requests_per_second: requests,
            bytes_per_second: ByteSize(bytes),
        };
        Budget::new(&settings, 1_000)
    }

    #[test]
    fn a_second_s_worth_is_free_and_what_follows_waits() {
        let budget = budget(3, 0);
        for _ in 0..3 {
            budget.take_request().unwrap();
        }
        let spent = budget.take_request().unwrap_err();
        assert!(spent.retry_after <= Duration::from_millis(334));
        assert_eq!(budget.take_bytes(usize::MAX), Ok(()), "bytes are not limited");
    }

    #[test]
    fn the_largest_body_fits_once_even_into_a_small_budget() {
        let budget = budget(0, 100);
        budget.take_bytes(1_000).unwrap();
        let spent = budget.take_bytes(100).unwrap_err();
        assert!(spent.retry_after > Duration::from_millis(500));
        assert!(budget.take_bytes(5_000).is_err());
        assert_eq!(budget.take_bytes(0), Ok(()));
        for _ in 0..1_000 {
            budget.take_request().unwrap();
        }
    }
}
