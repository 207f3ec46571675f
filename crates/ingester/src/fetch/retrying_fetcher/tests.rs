use std::collections::VecDeque;

use reqwest::StatusCode;

use super::*;
use crate::settings::{CircuitBreakerSettings, RateLimitSettings};
use crate::transform::random_user::ReplyError;

/// Fails as the script says, then answers with empty pages.
struct ScriptedApi(Mutex<VecDeque<FetchError>>);

impl UserApi for ScriptedApi {
    async fn fetch(&self, _: &PageRequest) -> Result<Page, FetchError> {
        self.0
            .lock()
            .unwrap()
            .pop_front()
            .map_or_else(|| Ok(Page::default()), Err)
    }
}

fn source(errors: impl IntoIterator<Item = FetchError>, window: Duration) -> RetryingFetcher<ScriptedApi> {
    let settings = SourceSettings {
        attempts: 3,
        backoff: Backoff {
            initial: Duration::from_millis(1),
            max: Duration::from_millis(2),
        },
        circuit_breaker: CircuitBreakerSettings {
            failures: 2,
            open_duration: Duration::from_millis(100),
        },
        rate_limit: RateLimitSettings { users: 10, window },
        ..SourceSettings::default()
    };
    let script = ScriptedApi(Mutex::new(errors.into_iter().collect()));
    let metrics = IngesterMetrics::new(&service::Metrics::new("ingester"));
    RetryingFetcher::new(script, &settings, Store::in_memory().unwrap(), metrics).unwrap()
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
    let stats = RunStats::for_tests();
    let source = source([status(503, None), status(500, None)], MINUTE);
    source.page(&request(), &stats).await.unwrap();
    assert_eq!(stats.counts().retried, 2);
}

#[tokio::test]
async fn attempts_come_to_an_end_with_the_last_failure() {
    let source = source([500, 502, 503, 504].map(|code| status(code, None)), MINUTE);
    let error = source.page(&request(), &RunStats::for_tests()).await.unwrap_err();
    let text = service::process::chain(&error);
    assert_eq!(
        text,
        "fetch page 7 in 3 attempts: completed 503 Service Unavailable"
    );
}

#[tokio::test]
async fn what_asking_again_cannot_mend_fails_at_once() {
    let source = source([status(403, None)], MINUTE);
    let error = source.page(&request(), &RunStats::for_tests()).await.unwrap_err();
    assert!(matches!(error, PageError::Permanent { page: 7, .. }));
}

#[tokio::test]
async fn throttling_takes_no_attempt_and_is_counted_as_waiting() {
    let stats = RunStats::for_tests();
    let wait = Some(Duration::from_millis(200));
    let source = source((0..5).map(|_| status(429, wait)), MINUTE);
    source.page(&request(), &stats).await.unwrap();
    assert!(
        stats.counts().rate_limited_seconds >= 0.5,
        "five waits, less the moments before each, which a busy machine makes long"
    );
}

#[tokio::test]
async fn throttling_beyond_two_windows_is_a_failure() {
    let source = source([status(429, Some(MINUTE * 3))], MINUTE);
    let error = source.page(&request(), &RunStats::for_tests()).await.unwrap_err();
    assert!(matches!(error, PageError::RateLimited { waited, .. } if waited == MINUTE * 3));
}

#[tokio::test]
async fn the_budget_makes_the_next_page_wait() {
    let stats = RunStats::for_tests();
    let source = source([], Duration::from_secs(1));
    let started = Instant::now();
    source.page(&request(), &stats).await.unwrap();
    source.page(&request(), &stats).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert!(stats.counts().rate_limited_seconds >= 0.3);
}

#[tokio::test]
async fn a_reply_that_does_not_hold_costs_budget_and_a_refusal_does_not() {
    let stats = RunStats::for_tests();
    let source = source(
        [status(500, None), FetchError::Reply(ReplyError::Empty)],
        Duration::from_secs(1),
    );
    source.page(&request(), &stats).await.unwrap();
    assert!(
        stats.counts().rate_limited_seconds > 0.0,
        "the odd reply duration the whole rate_window"
    );
}

#[tokio::test]
async fn an_api_that_only_fails_is_left_alone_for_a_while() {
    let source = source([status(503, None), status(500, None)], MINUTE);
    let started = Instant::now();
    source.page(&request(), &RunStats::for_tests()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn the_next_process_goes_on_with_the_budget_that_is_left() {
    let (first, window) = (source([], MINUTE), MINUTE);
    first.page(&request(), &RunStats::for_tests()).await.unwrap();
    let settings = SourceSettings {
        rate_limit: RateLimitSettings { users: 10, window },
        ..SourceSettings::default()
    };
    let metrics = first.metrics.clone();
    let next = RetryingFetcher::new(
        ScriptedApi(Mutex::default()),
        &settings,
        first.store.clone(),
        metrics,
    )
    .unwrap();
    let wait = next.limiter().rate_window.wait(1, Instant::now());
    assert!(wait > MINUTE / 2, "{wait:?}");
}
