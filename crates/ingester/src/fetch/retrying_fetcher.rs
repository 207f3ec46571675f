//! Fetches single pages with rate limiting, retries and a circuit breaker. Independent of the content of a page.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use service::Backoff;
use thiserror::Error;
use tokio::time::sleep;

use crate::config::SourceSettings;
use crate::fetch::circuit_breaker::CircuitBreaker;
use crate::fetch::rate_window::RateWindow;
use crate::fetch::request_limiter::{RequestLimiter, Throttle};
use crate::fetch::user_api::{FetchAction, FetchError, UserApi};
use crate::metrics::{IngesterMetrics, Upstream};
use crate::run::plan::PageRequest;
use crate::run::run_stats::{RunStats, WaitCause};
use crate::store::{Store, StoreError};
use crate::transform::page::Page;

/// Waits are split into steps, so that the metric moves and changes are noticed during a wait.
const STEP: Duration = Duration::from_secs(1);

/// A page can't be fetched.
#[derive(Debug, Error)]
pub enum PageError {
    /// A retry cannot succeed.
    #[error("failed to fetch page {page}")]
    Permanent {
        /// Number of the page.
        page: u32,
        /// The error of the request.
        #[source]
        source: FetchError,
    },
    /// Every attempt failed.
    #[error("failed to fetch page {page} in {attempts} attempts")]
    AttemptsExhausted {
        /// Number of the page.
        page: u32,
        /// Number of attempts.
        attempts: u32,
        /// The last error.
        #[source]
        source: FetchError,
    },
    /// The API rate limits for longer than its window explains.
    #[error(
        "failed to fetch page {page}: rate limited for {waited:.0?}, and the next attempt is due in {wait:.0?}"
    )]
    RateLimited {
        /// Number of the page.
        page: u32,
        /// Time since the first refusal.
        waited: Duration,
        /// The next wait.
        wait: Duration,
        /// The last error.
        #[source]
        source: FetchError,
    },
    /// The rate limit usage can't be stored.
    #[error("failed to store the rate limit usage")]
    Store(#[source] StoreError),
}

/// Fetches pages with retries. Several pages may be fetched at once.
pub struct RetryingFetcher<F> {
    api: F,
    /// Held by the next request while it waits for the limiter, so that a wait is counted once.
    queue_lock: tokio::sync::Mutex<()>,
    limiter: Mutex<RequestLimiter>,
    store: Store,
    attempts: u32,
    backoff: Backoff,
    window: Duration,
    metrics: IngesterMetrics,
}

/// A request in flight. Dropped without a response, it counts as served, because the API may have served it.
struct PendingRequest<'s> {
    limiter: &'s Mutex<RequestLimiter>,
    users: u64,
    completed: bool,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        if !self.completed {
            let (mut limiter, now) = (lock(self.limiter), Instant::now());
            limiter.rate_window.complete(self.users, true, now);
            limiter.breaker.on_cancel(now);
        }
    }
}

impl<F: UserApi> RetryingFetcher<F> {
    /// Creates a fetcher that continues with the rate limit usage in `store`.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the usage can't be read.
    pub fn new(
        api: F,
        settings: &SourceSettings,
        store: Store,
        metrics: IngesterMetrics,
    ) -> Result<Self, StoreError> {
        let window = settings.rate_limit.window;
        let mut rate_window = RateWindow::new(&settings.rate_limit);
        rate_window.restore(store.recent_usage(window, Timestamp::now())?, Instant::now());
        Ok(Self {
            api,
            queue_lock: tokio::sync::Mutex::default(),
            limiter: Mutex::new(RequestLimiter {
                rate_window,
                breaker: CircuitBreaker::new(&settings.circuit_breaker),
                retry_after: None,
            }),
            store,
            attempts: settings.attempts,
            backoff: settings.backoff,
            window,
            metrics,
        })
    }

    /// Fetches a complete and valid page.
    ///
    /// # Errors
    /// Returns any [`PageError`].
    pub async fn page(&self, request: &PageRequest, stats: &RunStats) -> Result<Page, PageError> {
        let page = request.page;
        let mut delays = self.backoff.delays();
        let mut attempts = 0;
        let mut rate_limited_since = None;
        loop {
            let error = match self.attempt(request, stats).await.map_err(PageError::Store)? {
                Ok(page) => return Ok(page),
                Err(error) => error,
            };
            let delay = delays.next().unwrap_or(self.backoff.max);
            match error.action() {
                FetchAction::Fail => return Err(PageError::Permanent { page, source: error }),
                FetchAction::Retry(after) => {
                    attempts += 1;
                    if attempts >= self.attempts {
                        return Err(PageError::AttemptsExhausted {
                            page,
                            attempts,
                            source: error,
                        });
                    }
                    self.log_retry(&error, page, stats);
                    let wait = delay.max(after.unwrap_or_default().min(self.max_rate_limit_wait()));
                    let cause = WaitCause::Retry(service::process::chain(&error));
                    stats.record_fetch_wait(cause, wait);
                    sleep(wait).await;
                }
                FetchAction::RateLimited(after) => {
                    let wait = delay.max(after.unwrap_or_default());
                    let waited = rate_limited_since.get_or_insert_with(Instant::now).elapsed();
                    if waited.saturating_add(wait) > self.max_rate_limit_wait() {
                        return Err(PageError::RateLimited {
                            page,
                            waited,
                            wait,
                            source: error,
                        });
                    }
                    self.log_retry(&error, page, stats);
                    self.limiter().extend_retry_after(wait, Instant::now());
                }
            }
        }
    }

    /// Two windows: another client may have used up one just before ours began.
    fn max_rate_limit_wait(&self) -> Duration {
        self.window.saturating_mul(2)
    }

    async fn attempt(
        &self,
        request: &PageRequest,
        stats: &RunStats,
    ) -> Result<Result<Page, FetchError>, StoreError> {
        let users = u64::from(request.results);
        let mut pending = self.acquire(users, stats).await;
        let reservation = self.store.reserve_users(users, self.window, Timestamp::now())?;
        let started = Instant::now();
        let result = self.api.fetch_page(request).await;
        let label = result
            .as_ref()
            .map_or_else(FetchError::label, |_| "200".to_owned());
        stats.record_request(Upstream::Source, &label, started.elapsed());
        pending.completed = true;
        let served = result
            .as_ref()
            .map_or_else(FetchError::may_have_consumed, |_| true);
        self.record_response(users, served, result.as_ref().err());
        self.store
            .complete_reservation(reservation, served, Timestamp::now())?;
        Ok(result)
    }

    /// Waits for the limiter, in the order of the calls.
    async fn acquire(&self, users: u64, stats: &RunStats) -> PendingRequest<'_> {
        let _lock = self.queue_lock.lock().await;
        loop {
            let throttle = {
                let mut limiter = self.limiter();
                let throttle = limiter.throttle(users, Instant::now());
                if throttle.is_none() {
                    limiter.rate_window.reserve(users);
                    limiter.breaker.on_request();
                }
                throttle
            };
            match throttle {
                None => {
                    return PendingRequest {
                        limiter: &self.limiter,
                        users,
                        completed: false,
                    };
                }
                Some(Throttle::RateLimit(wait)) => {
                    let started = Instant::now();
                    stats.record_fetch_wait(WaitCause::RateLimit, wait);
                    sleep(wait.min(STEP)).await;
                    stats.record_rate_limit_wait(started.elapsed());
                }
                Some(Throttle::CircuitBreaker(wait)) => {
                    stats.record_fetch_wait(WaitCause::CircuitBreaker, wait);
                    sleep(wait.min(STEP)).await;
                }
            }
        }
    }

    fn record_response(&self, users: u64, served: bool, error: Option<&FetchError>) {
        let (mut limiter, now) = (self.limiter(), Instant::now());
        limiter.rate_window.complete(users, served, now);
        match error.map(FetchError::action) {
            Some(FetchAction::Retry(_)) => limiter.breaker.on_failure(now),
            _ => limiter.breaker.on_success(),
        }
        self.metrics
            .circuit_breaker_open
            .set(limiter.breaker.is_open().into());
    }

    fn limiter(&self) -> MutexGuard<'_, RequestLimiter> {
        lock(&self.limiter)
    }

    fn log_retry(&self, error: &FetchError, page: u32, stats: &RunStats) {
        stats.record_retry(Upstream::Source);
        let error = service::process::chain(error);
        tracing::warn!(page, error, "failed to fetch a page, retrying");
    }
}

/// Ignores poisoning: the limiter holds plain numbers that stay valid.
fn lock(limiter: &Mutex<RequestLimiter>) -> MutexGuard<'_, RequestLimiter> {
    limiter.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
