//! Limits the rows per second, so that a replay leaves capacity for readers.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// A token bucket for rows, or no limit.
#[derive(Debug)]
pub struct RowRateLimiter(Option<TokenBucket>);

#[derive(Debug)]
struct TokenBucket {
    limiter: DefaultDirectRateLimiter,
    burst: NonZeroU32,
}

impl RowRateLimiter {
    /// Allows `rows_per_second` rows per second; `None` disables the limit.
    pub fn new(rows_per_second: Option<NonZeroU32>) -> Self {
        Self(rows_per_second.map(|rate| {
            // The burst is a tenth of a second. A whole second's rows at once would slow down readers.
            let burst = NonZeroU32::new(rate.get() / 10).unwrap_or(NonZeroU32::MIN);
            TokenBucket {
                limiter: RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)),
                burst,
            }
        }))
    }

    /// Waits until `count` rows may be written.
    pub async fn acquire(&self, count: usize) {
        let Some(TokenBucket { limiter, burst }) = &self.0 else {
            return;
        };
        let mut left = u32::try_from(count).unwrap_or(u32::MAX);
        while let Some(permits) = NonZeroU32::new(left.min(burst.get())) {
            limiter
                .until_n_ready(permits)
                .await
                .expect("the permits never exceed the burst");
            left -= permits.get();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn rows_are_limited_to_the_configured_rate() {
        let started = Instant::now();
        let rate_limiter = RowRateLimiter::new(NonZeroU32::new(1_000));
        for _ in 0..3 {
            rate_limiter.acquire(150).await;
        }
        // The first 100 rows are the burst.
        assert!(started.elapsed() >= Duration::from_millis(340));
        RowRateLimiter::new(None).acquire(usize::MAX).await;
    }
}
