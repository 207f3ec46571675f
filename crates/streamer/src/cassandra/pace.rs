//! How many rows a second may be written, so that a replay leaves room for live readers.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Lets rows pass at a steady pace, or at once where none is set.
#[derive(Debug)]
pub struct Pace(Option<Limit>);

#[derive(Debug)]
struct Limit {
    limiter: DefaultDirectRateLimiter,
    burst: NonZeroU32,
}

impl Pace {
    /// At most this many rows a second; none: no limit.
    pub fn new(rows_per_second: Option<NonZeroU32>) -> Self {
        Self(rows_per_second.map(|rate| {
            // A tenth of a second's rows at once: a whole second's would be felt by those who read.
            let burst = NonZeroU32::new(rate.get() / 10).unwrap_or(NonZeroU32::MIN);
            Limit {
                limiter: RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)),
                burst,
            }
        }))
    }

    /// Waits until `count` rows may be written.
    pub async fn rows(&self, count: usize) {
        let Some(Limit { limiter, burst }) = &self.0 else {
            return;
        };
        let mut left = u32::try_from(count).unwrap_or(u32::MAX);
        while let Some(some) = NonZeroU32::new(left.min(burst.get())) {
            limiter
                .until_n_ready(some)
                .await
                .expect("no more than a burst is asked for");
            left -= some.get();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn rows_pass_at_the_pace_that_is_set_and_at_once_without_one() {
        let started = Instant::now();
        let pace = Pace::new(NonZeroU32::new(1_000));
        for _ in 0..3 {
            pace.rows(150).await;
        }
        // The first 100 pass at once.
        assert!(started.elapsed() >= Duration::from_millis(340));
        Pace::new(None).rows(usize::MAX).await;
    }
}
