//! Pages, whatever it takes within bounds: keeps the API's budget, asks again by kind of failure, and leaves an API
//! alone that only fails. Knows nothing of what is in a page.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use service::Backoff;
use thiserror::Error;
use tokio::time::sleep;

use crate::fetch::circuit_breaker::CircuitBreaker;
use crate::fetch::rate_window::Budget;
use crate::fetch::user_api::{FetchAction, UserApi, FetchError};
use crate::store::{Store, StoreError};
use crate::metrics::{IngesterMetrics, Upstream};
use crate::transform::page::Page;
use crate::run::plan::PageRequest;
use crate::settings::SourceSettings;
use crate::run::run_stats::RunStats;

mod gate;

use gate::{RequestLimiter, Throttle};

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
    #[error("keep what is spent of the budget")]
    Store(#[source] StoreError),
}

/// The random-user API behind its budget and a breaker. Several pages may be asked for at once.
pub struct RetryingFetcher<F> {
    fetch: F,
    /// Whoever holds it is the next to ask, and waits for budget and breaker; so that waiting is counted once.
    turn: tokio::sync::Mutex<()>,
    gate: Mutex<RequestLimiter>,
    memory: Store,
    attempts: u32,
    backoff: Backoff,
    window: Duration,
    metrics: IngesterMetrics,
}

/// A request under way. Dropped without an answer, it counts as served, which it may have been.
struct PendingRequest<'s> {
    gate: &'s Mutex<RequestLimiter>,
    users: u64,
    answered: bool,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let (mut gate, now) = (lock(self.gate), Instant::now());
            gate.budget.settle(self.users, true, now);
            gate.breaker.abandoned(now);
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
        memory: Store,
        metrics: IngesterMetrics,
    ) -> Result<Self, StoreError> {
        let window = settings.rate_limit.window;
        let mut budget = RateWindow::new(&settings.rate_limit);
        budget.recall(memory.spent(window, Timestamp::now())?, Instant::now());
        Ok(Self {
            fetch,
            turn: tokio::sync::Mutex::default(),
            gate: Mutex::new(RequestLimiter {
                budget,
                breaker: CircuitBreaker::new(&settings.circuit_breaker),
                throttled_until: None,
            }),
            memory,
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
    pub async fn page(&self, request: &PageRequest, tally: &RunStats) -> Result<Page, PageError> {
        let page = request.page;
        let mut delays = self.backoff.delays();
        let mut attempts = 0;
        let mut waited = Duration::ZERO;
        loop {
            let error = match self.attempt(request, tally).await.map_err(PageError::Store)? {
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
                    self.note(&error, page, tally);
                    sleep(delay.max(after.unwrap_or_default().min(self.patience()))).await;
                }
                FetchAction::RateLimited(after) => {
                    let wait = delay.max(after.unwrap_or_default());
                    waited += wait;
                    if waited > self.patience() {
                        return Err(PageError::RateLimited {
                            page,
                            waited,
                            source: error,
                        });
                    }
                    self.note(&error, page, tally);
                    self.gate().throttled_until = Instant::now().checked_add(wait);
                }
            }
        }
    }

    /// Two windows: one may have been spent by others just before ours began.
    fn patience(&self) -> Duration {
        self.window * 2
    }

    async fn attempt(
        &self,
        request: &PageRequest,
        tally: &RunStats,
    ) -> Result<Result<Page, FetchError>, StoreError> {
        let users = u64::from(request.results);
        let mut asked = self.admitted(users, tally).await;
        let spending = self.memory.spend(users, self.window, Timestamp::now())?;
        let started = Instant::now();
        let answer = self.fetch.fetch(request).await;
        let label = answer
            .as_ref()
            .map_or_else(FetchError::label, |_| "200".to_owned());
        tally.request(Upstream::Source, &label, started.elapsed());
        asked.answered = true;
        let served = answer.as_ref().map_or_else(FetchError::may_have_cost, |_| true);
        self.answered(users, served, answer.as_ref().err());
        self.memory.settle(spending, served, Timestamp::now())?;
        Ok(answer)
    }

    /// Waits for its turn, for the budget and for the breaker.
    async fn admitted(&self, users: u64, tally: &RunStats) -> PendingRequest<'_> {
        let _turn = self.turn.lock().await;
        loop {
            let kept = {
                let mut gate = self.gate();
                let kept = gate.keeps(users, Instant::now());
                if kept.is_none() {
                    gate.budget.ask(users);
                    gate.breaker.asked();
                }
                kept
            };
            match kept {
                None => {
                    return PendingRequest {
                        gate: &self.gate,
                        users,
                        answered: false,
                    };
                }
                Some(Throttle::RateLimit(wait)) => {
                    let step = wait.min(STEP);
                    sleep(step).await;
                    tally.throttled(step);
                }
                Some(Throttle::CircuitBreaker(wait)) => sleep(wait.min(STEP)).await,
            }
        }
    }

    fn answered(&self, users: u64, served: bool, error: Option<&FetchError>) {
        let (mut gate, now) = (self.gate(), Instant::now());
        gate.budget.settle(users, served, now);
        match error.map(FetchError::action) {
            Some(FetchAction::Retry(_)) => gate.breaker.failed(now),
            _ => gate.breaker.succeeded(),
        }
        self.metrics.breaker_open.set(gate.breaker.is_open().into());
    }

    fn gate(&self) -> MutexGuard<'_, RequestLimiter> {
        lock(&self.gate)
    }

    fn note(&self, error: &FetchError, page: u32, tally: &RunStats) {
        tally.retried(Upstream::Source);
        let error = service::process::chain(error);
        tracing::warn!(page, error, "page not had, asking again");
    }
}

/// A panic elsewhere leaves plain numbers behind.
fn lock(gate: &Mutex<RequestLimiter>) -> MutexGuard<'_, RequestLimiter> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "source/tests.rs"]
mod tests;
