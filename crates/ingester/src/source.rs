//! Pages, whatever it takes within bounds: keeps the API's budget, asks again by kind of failure, and leaves an API
//! alone that only fails. Knows nothing of what is in a page.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use service::Backoff;
use thiserror::Error;
use tokio::time::sleep;

use crate::breaker::Breaker;
use crate::budget::Budget;
use crate::fetch::{Action, Fetch, FetchError};
use crate::memory::{Memory, MemoryError};
use crate::metrics::{IngesterMetrics, Leg};
use crate::page::Page;
use crate::plan::PageRequest;
use crate::settings::SourceSettings;
use crate::tally::Tally;

mod gate;

use gate::{Gate, Kept};

/// A longer wait is taken in steps, so that its metric moves and a change is noticed while it lasts.
const STEP: Duration = Duration::from_secs(1);

/// A page that can't be had.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Asking again would change nothing.
    #[error("fetch page {page}")]
    Failed {
        /// The page's number.
        page: u32,
        /// The failure.
        #[source]
        source: FetchError,
    },
    /// It was asked for as often as allowed.
    #[error("fetch page {page} in {attempts} attempts")]
    Attempts {
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
    Throttled {
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
    Memory(#[source] MemoryError),
}

/// The random-user API behind its budget and a breaker. Several pages may be asked for at once.
pub struct Source<F> {
    fetch: F,
    /// Whoever holds it is the next to ask, and waits for budget and breaker; so that waiting is counted once.
    turn: tokio::sync::Mutex<()>,
    gate: Mutex<Gate>,
    memory: Memory,
    attempts: u32,
    backoff: Backoff,
    window: Duration,
    metrics: IngesterMetrics,
}

/// A request under way. Dropped without an answer, it counts as served, which it may have been.
struct Asked<'s> {
    gate: &'s Mutex<Gate>,
    users: u64,
    answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let (mut gate, now) = (lock(self.gate), Instant::now());
            gate.budget.settle(self.users, true, now);
            gate.breaker.abandoned(now);
        }
    }
}

impl<F: Fetch> Source<F> {
    /// Goes on with the budget that `memory` has.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn new(
        fetch: F,
        settings: &SourceSettings,
        memory: Memory,
        metrics: IngesterMetrics,
    ) -> Result<Self, MemoryError> {
        let window = settings.rate_limit.window;
        let mut budget = Budget::new(&settings.rate_limit);
        budget.recall(memory.spent(window, Timestamp::now())?, Instant::now());
        Ok(Self {
            fetch,
            turn: tokio::sync::Mutex::default(),
            gate: Mutex::new(Gate {
                budget,
                breaker: Breaker::new(&settings.circuit_breaker),
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
    /// Each [`SourceError`].
    pub async fn page(&self, request: &PageRequest, tally: &Tally) -> Result<Page, SourceError> {
        let page = request.page;
        let mut delays = self.backoff.delays();
        let mut attempts = 0;
        let mut waited = Duration::ZERO;
        loop {
            let error = match self.attempt(request, tally).await.map_err(SourceError::Memory)? {
                Ok(page) => return Ok(page),
                Err(error) => error,
            };
            let delay = delays.next().unwrap_or(self.backoff.max);
            match error.action() {
                Action::Fail => return Err(SourceError::Failed { page, source: error }),
                Action::Retry(after) => {
                    attempts += 1;
                    if attempts >= self.attempts {
                        return Err(SourceError::Attempts {
                            page,
                            attempts,
                            source: error,
                        });
                    }
                    self.note(&error, page, tally);
                    sleep(delay.max(after.unwrap_or_default().min(self.patience()))).await;
                }
                Action::Throttled(after) => {
                    let wait = delay.max(after.unwrap_or_default());
                    waited += wait;
                    if waited > self.patience() {
                        return Err(SourceError::Throttled {
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
        tally: &Tally,
    ) -> Result<Result<Page, FetchError>, MemoryError> {
        let users = u64::from(request.results);
        let mut asked = self.admitted(users, tally).await;
        let spending = self.memory.spend(users, self.window, Timestamp::now())?;
        let started = Instant::now();
        let answer = self.fetch.fetch(request).await;
        let label = answer
            .as_ref()
            .map_or_else(FetchError::label, |_| "200".to_owned());
        tally.request(Leg::Source, &label, started.elapsed());
        asked.answered = true;
        let served = answer.as_ref().map_or_else(FetchError::may_have_cost, |_| true);
        self.answered(users, served, answer.as_ref().err());
        self.memory.settle(spending, served, Timestamp::now())?;
        Ok(answer)
    }

    /// Waits for its turn, for the budget and for the breaker.
    async fn admitted(&self, users: u64, tally: &Tally) -> Asked<'_> {
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
                    return Asked {
                        gate: &self.gate,
                        users,
                        answered: false,
                    };
                }
                Some(Kept::Budget(wait)) => {
                    let step = wait.min(STEP);
                    sleep(step).await;
                    tally.throttled(step);
                }
                Some(Kept::Breaker(wait)) => sleep(wait.min(STEP)).await,
            }
        }
    }

    fn answered(&self, users: u64, served: bool, error: Option<&FetchError>) {
        let (mut gate, now) = (self.gate(), Instant::now());
        gate.budget.settle(users, served, now);
        match error.map(FetchError::action) {
            Some(Action::Retry(_)) => gate.breaker.failed(now),
            _ => gate.breaker.succeeded(),
        }
        self.metrics.breaker_open.set(gate.breaker.is_open().into());
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        lock(&self.gate)
    }

    fn note(&self, error: &FetchError, page: u32, tally: &Tally) {
        tally.retried(Leg::Source);
        let error = service::process::chain(error);
        tracing::warn!(page, error, "page not had, asking again");
    }
}

/// A panic elsewhere leaves plain numbers behind.
fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "source/tests.rs"]
mod tests;
