//! Tests of the retries, rate limit and circuit breaker, with a scripted API.

use std::collections::VecDeque;

use reqwest::StatusCode;

use super::*;
use crate::config::{CircuitBreakerSettings, RateLimitSettings};
use crate::transform::random_user::ReplyError;

/// Returns the scripted errors, then empty pages.
struct ScriptedApi(Mutex<VecDeque<FetchError>>);

impl UserApi for ScriptedApi {
    async fn fetch_page(&self, _: &PageRequest) -> Result<Page, FetchError> {
        self.0
            .lock()
            .unwrap()
            .pop_front()
            .map_or_else(|| Ok(Page::default()), Err)
    }
}

fn fetcher(errors: impl IntoIterator<Item = FetchError>, window: Duration) -> RetryingFetcher<ScriptedApi> {
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
async fn temporary_error_is_retried_and_counted() {
    let stats = RunStats::for_tests();
    let fetcher = fetcher([status(503, None), status(500, None)], MINUTE);
    fetcher.page(&request(), &stats).await.unwrap();
    assert_eq!(stats.counts().retried, 2);
}

#[tokio::test]
async fn exhausted_attempts_report_the_last_error() {
    let fetcher = fetcher([500, 502, 503, 504].map(|code| status(code, None)), MINUTE);
    let error = fetcher
        .page(&request(), &RunStats::for_tests())
        .await
        .unwrap_err();
    let text = service::process::chain(&error);
    assert_eq!(
        text,
        "failed to fetch page 7 in 3 attempts: the API responded with 503 Service Unavailable"
    );
}

#[tokio::test]
async fn permanent_error_fails_at_once() {
    let fetcher = fetcher([status(403, None)], MINUTE);
    let error = fetcher
        .page(&request(), &RunStats::for_tests())
        .await
        .unwrap_err();
    assert!(matches!(error, PageError::Permanent { page: 7, .. }));
}

#[tokio::test]
async fn rate_limiting_takes_no_attempt_and_counts_as_wait() {
    let stats = RunStats::for_tests();
    let wait = Some(Duration::from_millis(200));
    let fetcher = fetcher((0..5).map(|_| status(429, wait)), MINUTE);
    fetcher.page(&request(), &stats).await.unwrap();
    assert!(
        stats.counts().rate_limited_seconds >= 0.5,
        "five waits, less the time before each, which is long on a busy machine"
    );
}

#[tokio::test]
async fn rate_limiting_beyond_two_windows_fails() {
    let fetcher = fetcher([status(429, Some(MINUTE * 3))], MINUTE);
    let error = fetcher
        .page(&request(), &RunStats::for_tests())
        .await
        .unwrap_err();
    assert!(matches!(error, PageError::RateLimited { wait, .. } if wait == MINUTE * 3));
    let text = error.to_string();
    assert!(
        text.ends_with("the next attempt is due in 180s") && !text.contains("limited for 180s"),
        "the time that passed, not the one that was requested: {text}"
    );
}

#[tokio::test]
async fn longest_possible_retry_after_fails_the_page() {
    let forever = Some(Duration::from_secs(u64::MAX));
    // Together they exceed the range of a duration.
    let short = Some(Duration::from_secs(1));
    for before in [0, 1] {
        let refusals = (0..before)
            .map(|_| status(429, short))
            .chain([status(429, forever)]);
        let fetcher = fetcher(refusals, MINUTE);
        let result = fetcher.page(&request(), &RunStats::for_tests()).await;
        assert!(matches!(result, Err(PageError::RateLimited { .. })), "{result:?}");
    }
}

#[test]
fn shorter_retry_after_does_not_shorten_a_longer_one() {
    let fetcher = fetcher([], MINUTE);
    let (mut limiter, now) = (fetcher.limiter(), Instant::now());
    limiter.extend_retry_after(Duration::from_secs(50), now);
    limiter.extend_retry_after(Duration::from_secs(5), now);
    limiter.extend_retry_after(Duration::from_secs(u64::MAX), now);
    let Some(Throttle::RateLimit(wait)) = limiter.throttle(1, now) else {
        panic!("a request must wait")
    };
    assert_eq!(wait, Duration::from_secs(50));
}

#[tokio::test]
async fn rate_limit_delays_the_next_page() {
    let stats = RunStats::for_tests();
    let fetcher = fetcher([], Duration::from_secs(1));
    let started = Instant::now();
    fetcher.page(&request(), &stats).await.unwrap();
    fetcher.page(&request(), &stats).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert!(stats.counts().rate_limited_seconds >= 0.3);
}

#[tokio::test]
async fn invalid_reply_consumes_rate_limit_and_a_refusal_does_not() {
    let stats = RunStats::for_tests();
    let fetcher = fetcher(
        [status(500, None), FetchError::Reply(ReplyError::Empty)],
        Duration::from_secs(1),
    );
    fetcher.page(&request(), &stats).await.unwrap();
    assert!(
        stats.counts().rate_limited_seconds > 0.0,
        "the invalid reply consumed the whole limit"
    );
}

#[tokio::test]
async fn circuit_breaker_pauses_requests_to_a_failing_api() {
    let fetcher = fetcher([status(503, None), status(500, None)], MINUTE);
    let started = Instant::now();
    fetcher.page(&request(), &RunStats::for_tests()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn next_process_continues_with_the_rate_limit_usage() {
    let (first, window) = (fetcher([], MINUTE), MINUTE);
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
