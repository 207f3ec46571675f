//! Pages, whatever it takes within bounds: keeps the API's budget, asks again by kind of failure, and leaves an API
//! alone that only fails. Knows nothing of what is in a page.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use service::Backoff;
use thiserror::Error;
use tokio::time::sleep;

use crate::fetch::circuit_breaker::CircuitBreaker;
use crate::fetch::rate_window::RateWindow;
use crate::fetch::request_limiter::{RequestLimiter, Throttle};
use crate::fetch::user_api::{FetchAction, FetchError, UserApi};
use crate::metrics::{IngesterMetrics, Upstream};
use crate::run::plan::PageRequest;
use crate::run::run_stats::RunStats;
use crate::settings::SourceSettings;
use crate::store::{Store, StoreError};
use crate::transform::page::Page;

/// A longer wait is taken in steps, so that its metric moves and a change is noticed while it lasts.
const STEP: Duration = Duration::from_secs(1);

/// A page that can't be had.
#[derive(Debug, Error)]
pub enum PageError {
    /// Asking again would change nothing.
    #[error("fetch page {page}")]
    Permanent {
        /// The page's number.
        page: u32,
        /// The failure.
        #[source]
        source: FetchError,
    },
    /// It was asked for as often as allowed.
    #[error("fetch page {page} in {attempts} attempts")]
    AttemptsExhausted {
        /// The page's number.
        page: u32,
        /// How often.
        attempts: u32,
        /// The last failure.
        #[source]
        source: FetchError,
    },
    /// The API goes on throttling for longer than its budget explains.
    #[error("fetch page {page}: still throttled after {waited:?}")]
    RateLimited {
        /// The page's number.
        page: u32,
        /// How long it was waited for, or would have to be.
        waited: Duration,
        /// The last failure.
        #[source]
        source: FetchError,
    },
    /// What is spent of the budget can't be kept.
    #[error("keep what is spent of the rate_window")]
    Store(#[source] StoreError),
}

/// The random-user API behind its budget and a breaker. Several pages may be asked for at once.
pub struct RetryingFetcher<F> {
    fetch: F,
    /// Whoever holds it is the next to ask, and waits for budget and breaker; so that waiting is counted once.
    queue_lock: tokio::sync::Mutex<()>,
    limiter: Mutex<RequestLimiter>,
    store: Store,
    attempts: u32,
    backoff: Backoff,
    window: Duration,
    metrics: IngesterMetrics,
}

/// A request under way. Dropped without an answer, it counts as served, which it may have been.
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
    /// Goes on with the budget that `memory` has.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn new(
        fetch: F,
        settings: &SourceSettings,
        store: Store,
        metrics: IngesterMetrics,
    ) -> Result<Self, StoreError> {
        let window = settings.rate_limit.window;
        let mut rate_window = RateWindow::new(&settings.rate_limit);
        rate_window.restore(store.recent_usage(window, Timestamp::now())?, Instant::now());
        Ok(Self {
            fetch,
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

    /// The page that was asked for, whole and verified.
    ///
    /// # Errors
    /// Each [`PageError`].
    pub async fn page(&self, request: &PageRequest, stats: &RunStats) -> Result<Page, PageError> {
        let page = request.page;
        let mut delays = self.backoff.delays();
        let mut attempts = 0;
        let mut waited = Duration::ZERO;
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
                    sleep(delay.max(after.unwrap_or_default().min(self.max_rate_limit_wait()))).await;
                }
                FetchAction::RateLimited(after) => {
                    let wait = delay.max(after.unwrap_or_default());
                    waited += wait;
                    if waited > self.max_rate_limit_wait() {
                        return Err(PageError::RateLimited {
                            page,
                            waited,
                            source: error,
                        });
                    }
                    self.log_retry(&error, page, stats);
                    self.limiter().retry_after = Instant::now().checked_add(wait);
                }
            }
        }
    }

    /// Two windows: one may have been spent by others just before ours began.
    fn max_rate_limit_wait(&self) -> Duration {
        self.window * 2
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
        let answer = self.fetch.fetch(request).await;
        let label = answer
            .as_ref()
            .map_or_else(FetchError::label, |_| "200".to_owned());
        stats.record_request(Upstream::Source, &label, started.elapsed());
        pending.completed = true;
        let served = answer
            .as_ref()
            .map_or_else(FetchError::may_have_consumed, |_| true);
        self.record_response(users, served, answer.as_ref().err());
        self.store
            .complete_reservation(reservation, served, Timestamp::now())?;
        Ok(answer)
    }

    /// Waits for its turn, for the budget and for the breaker.
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
                    let step = wait.min(STEP);
                    sleep(step).await;
                    stats.record_rate_limit_wait(step);
                }
                Some(Throttle::CircuitBreaker(wait)) => sleep(wait.min(STEP)).await,
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
        tracing::warn!(page, error, "page not had, asking again");
    }
}

/// A panic elsewhere leaves plain numbers behind.
fn lock(limiter: &Mutex<RequestLimiter>) -> MutexGuard<'_, RequestLimiter> {
    limiter.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "retrying_fetcher/tests.rs"]
mod tests;
