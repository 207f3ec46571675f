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

/// When the next request may go out.
struct Gate {
    budget: Budget,
    breaker: Breaker,
    /// The API itself asked to wait until then.
    throttled_until: Option<Instant>,
}

/// What keeps a request back.
enum Kept {
    Budget(Duration),
    Breaker(Duration),
}

impl Gate {
    fn keeps(&mut self, users: u64, now: Instant) -> Option<Kept> {
        let told = self
            .throttled_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let budget = self.budget.wait(users, now).max(told);
        let breaker = self.breaker.wait(now);
        if !budget.is_zero() {
            Some(Kept::Budget(budget))
        } else if !breaker.is_zero() {
            Some(Kept::Breaker(breaker))
        } else {
            None
        }
    }
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
        let window = settings.budget.window;
        let mut budget = Budget::new(&settings.budget);
        budget.recall(memory.spent(window, Timestamp::now())?, Instant::now());
        Ok(Self {
            fetch,
            turn: tokio::sync::Mutex::default(),
            gate: Mutex::new(Gate {
                budget,
                breaker: Breaker::new(&settings.breaker),
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
mod tests {
    use std::collections::VecDeque;

    use reqwest::StatusCode;

    use super::*;
    use crate::randomuser::ReplyError;
    use crate::settings::{BreakerSettings, BudgetSettings};

    /// Fails as the script says, then answers with empty pages.
    struct Script(Mutex<VecDeque<FetchError>>);

    impl Fetch for Script {
        async fn fetch(&self, _: &PageRequest) -> Result<Page, FetchError> {
            self.0
                .lock()
                .unwrap()
                .pop_front()
                .map_or_else(|| Ok(Page::default()), Err)
        }
    }

    fn source(errors: impl IntoIterator<Item = FetchError>, window: Duration) -> Source<Script> {
        let settings = SourceSettings {
            attempts: 3,
            backoff: Backoff {
                initial: Duration::from_millis(1),
                max: Duration::from_millis(2),
            },
            breaker: BreakerSettings {
                failures: 2,
                pause: Duration::from_millis(100),
            },
            budget: BudgetSettings { users: 10, window },
            ..SourceSettings::default()
        };
        let script = Script(Mutex::new(errors.into_iter().collect()));
        let metrics = IngesterMetrics::new(&service::Metrics::new("ingester"));
        Source::new(script, &settings, Memory::volatile().unwrap(), metrics).unwrap()
    }

    fn status(status: u16, retry_after: Option<Duration>) -> FetchError {
        let status = StatusCode::from_u16(status).unwrap();
        FetchError::Status { status, retry_after }
    }

    fn request() -> PageRequest {
        PageRequest {
            seed: "abc".into(),
            page: 7,
            results: 10,
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_passing_failure_is_asked_over_and_counted() {
        let tally = Tally::for_tests();
        let source = source([status(503, None), status(500, None)], MINUTE);
        source.page(&request(), &tally).await.unwrap();
        assert_eq!(tally.counts().retried, 2);
    }

    #[tokio::test]
    async fn attempts_come_to_an_end_with_the_last_failure() {
        let source = source([500, 502, 503, 504].map(|code| status(code, None)), MINUTE);
        let error = source.page(&request(), &Tally::for_tests()).await.unwrap_err();
        let text = service::process::chain(&error);
        assert_eq!(
            text,
            "fetch page 7 in 3 attempts: answered 503 Service Unavailable"
        );
    }

    #[tokio::test]
    async fn what_asking_again_cannot_mend_fails_at_once() {
        let source = source([status(403, None)], MINUTE);
        let error = source.page(&request(), &Tally::for_tests()).await.unwrap_err();
        assert!(matches!(error, SourceError::Failed { page: 7, .. }));
    }

    #[tokio::test]
    async fn throttling_takes_no_attempt_and_is_counted_as_waiting() {
        let tally = Tally::for_tests();
        let wait = Some(Duration::from_millis(20));
        let source = source((0..5).map(|_| status(429, wait)), MINUTE);
        source.page(&request(), &tally).await.unwrap();
        assert!(
            tally.counts().throttled_seconds >= 0.09,
            "five waits, less the moments before each"
        );
    }

    #[tokio::test]
    async fn throttling_beyond_two_windows_is_a_failure() {
        let source = source([status(429, Some(MINUTE * 3))], MINUTE);
        let error = source.page(&request(), &Tally::for_tests()).await.unwrap_err();
        assert!(matches!(error, SourceError::Throttled { waited, .. } if waited == MINUTE * 3));
    }

    #[tokio::test]
    async fn the_budget_makes_the_next_page_wait() {
        let tally = Tally::for_tests();
        let source = source([], Duration::from_millis(80));
        let started = Instant::now();
        source.page(&request(), &tally).await.unwrap();
        source.page(&request(), &tally).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(80));
        assert!(tally.counts().throttled_seconds >= 0.05);
    }

    #[tokio::test]
    async fn a_reply_that_does_not_hold_costs_budget_and_a_refusal_does_not() {
        let tally = Tally::for_tests();
        let source = source(
            [status(500, None), FetchError::Reply(ReplyError::Empty)],
            Duration::from_millis(50),
        );
        source.page(&request(), &tally).await.unwrap();
        assert!(
            tally.counts().throttled_seconds > 0.0,
            "the odd reply took the whole budget"
        );
    }

    #[tokio::test]
    async fn an_api_that_only_fails_is_left_alone_for_a_while() {
        let source = source([status(503, None), status(500, None)], MINUTE);
        let started = Instant::now();
        source.page(&request(), &Tally::for_tests()).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn the_next_process_goes_on_with_the_budget_that_is_left() {
        let (first, window) = (source([], MINUTE), MINUTE);
        first.page(&request(), &Tally::for_tests()).await.unwrap();
        let settings = SourceSettings {
            budget: BudgetSettings { users: 10, window },
            ..SourceSettings::default()
        };
        let metrics = first.metrics.clone();
        let next = Source::new(Script(Mutex::default()), &settings, first.memory.clone(), metrics).unwrap();
        let wait = next.gate().budget.wait(1, Instant::now());
        assert!(wait > MINUTE / 2, "{wait:?}");
    }
}
