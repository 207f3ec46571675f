//! Pages, whatever it takes within bounds: keeps the API's budget and asks again by kind of failure. Knows nothing of
//! what is in a page.

use std::time::{Duration, Instant};

use service::Backoff;
use thiserror::Error;
use tokio::time::sleep;

use crate::budget::Budget;
use crate::fetch::{Action, Fetch, FetchError};
use crate::metrics::Leg;
use crate::page::Page;
use crate::plan::PageRequest;
use crate::settings::SourceSettings;
use crate::tally::Tally;

/// A longer wait is counted step by step, so that its metric moves while it lasts.
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
}

/// The random-user API behind its budget.
pub struct Source<F> {
    fetch: F,
    budget: Budget,
    attempts: u32,
    backoff: Backoff,
}

impl<F: Fetch> Source<F> {
    /// Nothing of the budget is spent yet.
    pub fn new(fetch: F, settings: &SourceSettings) -> Self {
        Self {
            fetch,
            budget: Budget::new(&settings.budget),
            attempts: settings.attempts,
            backoff: settings.backoff,
        }
    }

    /// The page that was asked for, whole and verified.
    ///
    /// # Errors
    /// Each [`SourceError`].
    pub async fn page(&mut self, request: &PageRequest, tally: &Tally) -> Result<Page, SourceError> {
        let page = request.page;
        let mut delays = self.backoff.delays();
        let mut attempts = 0;
        let mut waited = Duration::ZERO;
        loop {
            let error = match self.attempt(request, tally).await {
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
                    throttle(wait, tally).await;
                }
            }
        }
    }

    /// Two windows: one may have been spent by others just before ours began.
    fn patience(&self) -> Duration {
        self.budget.window() * 2
    }

    async fn attempt(&mut self, request: &PageRequest, tally: &Tally) -> Result<Page, FetchError> {
        let users = u64::from(request.results);
        loop {
            let wait = self.budget.wait(users, Instant::now());
            if wait.is_zero() {
                break;
            }
            throttle(wait, tally).await;
        }
        let asked = Instant::now();
        let answer = self.fetch.fetch(request).await;
        let label = answer
            .as_ref()
            .map_or_else(FetchError::label, |_| "200".to_owned());
        tally.request(Leg::Source, &label, asked.elapsed());
        if answer.as_ref().map_or_else(FetchError::may_have_cost, |_| true) {
            self.budget.spend(users, Instant::now());
        }
        answer
    }

    fn note(&self, error: &FetchError, page: u32, tally: &Tally) {
        tally.retried(Leg::Source);
        let error = service::process::chain(error);
        tracing::warn!(page, error, "page not had, asking again");
    }
}

async fn throttle(wait: Duration, tally: &Tally) {
    let mut left = wait;
    while !left.is_zero() {
        let step = left.min(STEP);
        sleep(step).await;
        tally.throttled(step);
        left -= step;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use reqwest::StatusCode;

    use super::*;
    use crate::randomuser::ReplyError;
    use crate::settings::BudgetSettings;

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
            budget: BudgetSettings { users: 10, window },
            ..SourceSettings::default()
        };
        Source::new(Script(Mutex::new(errors.into_iter().collect())), &settings)
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
        let mut source = source([status(503, None), status(500, None)], MINUTE);
        source.page(&request(), &tally).await.unwrap();
        assert_eq!(tally.counts().retried, 2);
    }

    #[tokio::test]
    async fn attempts_come_to_an_end_with_the_last_failure() {
        let mut source = source([500, 502, 503, 504].map(|code| status(code, None)), MINUTE);
        let error = source.page(&request(), &Tally::for_tests()).await.unwrap_err();
        let text = service::process::chain(&error);
        assert_eq!(
            text,
            "fetch page 7 in 3 attempts: answered 503 Service Unavailable"
        );
    }

    #[tokio::test]
    async fn what_asking_again_cannot_mend_fails_at_once() {
        let mut source = source([status(403, None)], MINUTE);
        let error = source.page(&request(), &Tally::for_tests()).await.unwrap_err();
        assert!(matches!(error, SourceError::Failed { page: 7, .. }));
    }

    #[tokio::test]
    async fn throttling_takes_no_attempt_and_is_counted_as_waiting() {
        let tally = Tally::for_tests();
        let wait = Some(Duration::from_millis(20));
        let mut source = source((0..5).map(|_| status(429, wait)), MINUTE);
        source.page(&request(), &tally).await.unwrap();
        assert!(tally.counts().throttled_seconds >= 0.1);
    }

    #[tokio::test]
    async fn throttling_beyond_two_windows_is_a_failure() {
        let mut source = source([status(429, Some(MINUTE * 3))], MINUTE);
        let error = source.page(&request(), &Tally::for_tests()).await.unwrap_err();
        assert!(matches!(error, SourceError::Throttled { waited, .. } if waited == MINUTE * 3));
    }

    #[tokio::test]
    async fn the_budget_makes_the_next_page_wait() {
        let tally = Tally::for_tests();
        let mut source = source([], Duration::from_millis(80));
        let started = Instant::now();
        source.page(&request(), &tally).await.unwrap();
        source.page(&request(), &tally).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(80));
        assert!(tally.counts().throttled_seconds >= 0.05);
    }

    #[tokio::test]
    async fn a_reply_that_does_not_hold_costs_budget_and_a_refusal_does_not() {
        let tally = Tally::for_tests();
        let mut source = source(
            [status(500, None), FetchError::Reply(ReplyError::Empty)],
            Duration::from_millis(50),
        );
        source.page(&request(), &tally).await.unwrap();
        assert!(
            tally.counts().throttled_seconds > 0.0,
            "the odd reply took the whole budget"
        );
    }
}
