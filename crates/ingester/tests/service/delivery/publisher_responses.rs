//! How the ingester handles each response of the publisher, over real HTTP. A stub sends each response on demand, also
//! inconsistent ones. Responses of the real publisher are in `real_publisher` and `outages`.

use std::time::{Duration, Instant};

use ingester::config::IngesterSettings;
use ingester::delivery::compression::CompressionConfig;
use ingester::run::report::{Report, RunOutcome};
use serde_json::{Value, json};
use service::Secret;

use crate::support::offline_api::start_api;
use crate::support::pipeline;
use crate::support::stub_publisher::{StubPublisher, StubResponse};

async fn run_with(
    responses: Vec<StubResponse>,
    change: impl FnOnce(&mut IngesterSettings),
) -> (Report, StubPublisher) {
    let api = start_api().await;
    let publisher = StubPublisher::start().await;
    publisher.respond_with(responses);
    let mut settings = pipeline::settings(&api, &publisher.url());
    settings.publisher.request_timeout = Duration::from_secs(2);
    change(&mut settings);
    (pipeline::run(&settings).await, publisher)
}

fn error_status(status: u16) -> StubResponse {
    StubResponse::Problem(status, "scripted")
}

#[tokio::test]
async fn request_carries_run_id_sequence_type_and_token() {
    let token = |settings: &mut IngesterSettings| {
        settings.publisher.token = Some(Secret::new("s3cret"));
        settings.publisher.batch_size = 2;
    };
    let (report, publisher) = run_with(vec![], token).await;
    let requests = publisher.requests();
    let numbers: Vec<_> = requests
        .iter()
        .map(|request| (request.first, request.records.len()))
        .collect();
    assert_eq!(numbers, [(0, 2), (2, 2), (4, 1), (5, 2), (7, 2), (9, 1)]);
    for request in requests {
        assert_eq!(request.run, report.run.to_string());
        assert_eq!(request.content_type, "application/json");
        assert_eq!(request.token.as_deref(), Some("Bearer s3cret"));
    }
}

#[tokio::test]
async fn requests_share_one_connection() {
    let (_, publisher) = run_with(vec![], |settings| settings.publisher.batch_size = 1).await;
    let connections = |publisher: &StubPublisher| -> std::collections::HashSet<_> {
        publisher.requests().iter().map(|request| request.peer).collect()
    };
    assert_eq!(
        (publisher.requests().len(), connections(&publisher).len()),
        (10, 1)
    );
    let (_, publisher) = run_with(vec![StubResponse::Disconnect], |settings| {
        settings.publisher.batch_size = 1
    })
    .await;
    assert_eq!(
        (publisher.requests().len(), connections(&publisher).len()),
        (11, 2)
    );
}

#[tokio::test]
async fn requests_are_compressed_as_configured() {
    let mut sizes = Vec::new();
    for (compression, coding) in [
        // The publisher is on this machine.
        (CompressionConfig::Auto, None),
        (CompressionConfig::None, None),
        (CompressionConfig::Gzip, Some("gzip")),
        (CompressionConfig::Zstd, Some("zstd")),
    ] {
        let change = |settings: &mut IngesterSettings| {
            settings.publisher.compression = compression;
            settings.run.seed = Some("abc".parse().unwrap());
            settings.source.page_size = 200;
            settings.run.users = 200;
        };
        let (report, publisher) = run_with(vec![], change).await;
        assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (200, 200, 0));
        let [request] = &publisher.requests()[..] else {
            panic!("one request")
        };
        assert_eq!(request.coding.as_deref(), coding);
        sizes.push((request.bytes, publisher.accepted_records()));
    }
    assert!(sizes[2..].iter().all(|(bytes, _)| bytes * 2 < sizes[0].0));
    assert!(sizes[1..].iter().all(|(_, records)| *records == sizes[0].1));
}

#[tokio::test]
async fn uncertain_requests_are_retried_with_the_same_sequence() {
    let responses = vec![
        error_status(503),
        error_status(504),
        error_status(500),
        error_status(408),
        StubResponse::Disconnect,
        StubResponse::Hang,
    ];
    let (report, publisher) = run_with(responses, |_| {}).await;
    assert!(matches!(report.outcome, RunOutcome::Complete));
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (10, 10, 6));
    let requests = publisher.requests();
    assert_eq!(requests.len(), 8);
    assert!(
        requests[..7]
            .iter()
            .all(|request| request.first == 0 && request.records == requests[0].records)
    );
}

#[tokio::test]
async fn retry_after_is_honoured() {
    for status in [429, 503] {
        let started = Instant::now();
        let (report, _) = run_with(vec![StubResponse::Status(status, Some("1"), json!({}))], |_| {}).await;
        assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (10, 10, 1));
        assert!(started.elapsed() >= Duration::from_secs(1), "{status}");
    }
}

#[tokio::test]
async fn oversized_batches_are_split() {
    let responses = vec![
        StubResponse::TooLargeAbove(1),
        StubResponse::TooLargeAbove(2),
        StubResponse::TooLargeAbove(2),
    ];
    let (report, publisher) = run_with(responses, |_| {}).await;
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (10, 10, 0));
    let numbers: Vec<_> = publisher
        .requests()
        .iter()
        .map(|request| (request.first, request.records.len()))
        .collect();
    assert_eq!(numbers, [(0, 5), (0, 2), (2, 3), (2, 1), (3, 2), (5, 5)]);
}

#[tokio::test]
async fn rejected_records_keep_their_reasons() {
    let script = vec![StubResponse::RejectFirst, StubResponse::RejectAll];
    let (report, _) = run_with(script, |settings| settings.run.max_invalid_share = 0.6).await;
    assert!(matches!(report.outcome, RunOutcome::Rejected));
    assert_eq!((report.counts.accepted, report.counts.rejected), (4, 6));
    assert_eq!(report.counts.rejected_reasons["phone: is not allowed"], 6);
}

#[tokio::test]
async fn inconsistent_response_is_never_a_success() {
    let inconsistent: [Value; 4] = [
        json!({"accepted": 4, "rejected": 0}),
        json!({"accepted": 6, "rejected": 0}),
        json!({}),
        json!("<html>"),
    ];
    for body in inconsistent {
        let response = StubResponse::Status(200, None, body.clone());
        let (report, _) = run_with(vec![response.clone()], |_| {}).await;
        assert_eq!(
            pipeline::fetched_accepted_retried(&report.counts),
            (10, 10, 1),
            "{body}"
        );
        let (report, _) = run_with(vec![response; 6], |_| {}).await;
        let reason = report.reason().unwrap();
        assert!(reason.contains("6 invalid responses in a row"), "{reason}");
        assert_eq!(report.counts.accepted, 0, "{body}");
    }
}

#[tokio::test]
async fn permanent_error_fails_the_run_with_the_reason() {
    for status in [400, 404, 415, 502] {
        let (report, publisher) = run_with(vec![error_status(status)], |_| {}).await;
        let reason = report.reason().unwrap();
        assert_eq!(
            reason,
            format!(
                "failed to deliver records: the publisher rejected a request: the publisher responded with {status}: scripted"
            )
        );
        assert_eq!((report.counts.accepted, publisher.requests().len()), (0, 1));
    }
}

#[tokio::test]
async fn gateway_s_responses_are_retried() {
    let statuses = [502, 404, 403, 401, 301, 200, 422, 503];
    let (report, publisher) = run_with(statuses.map(StubResponse::Gateway).to_vec(), |_| {}).await;
    assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (10, 10, 8));
    let requests = publisher.requests();
    assert!(
        requests[..9].iter().all(|request| request.first == 0),
        "{requests:?}"
    );
}

#[tokio::test]
async fn gateway_that_never_lets_through_ends_the_run_at_its_timeout() {
    let short = |settings: &mut IngesterSettings| settings.run.timeout = Duration::from_millis(500);
    let (report, publisher) = run_with(vec![StubResponse::Gateway(502); 10_000], short).await;
    let reason = report.reason().unwrap();
    assert!(reason.starts_with("the run exceeded run.timeout"), "{reason}");
    assert!(!report.is_unrecoverable() && publisher.requests().len() > 10);
}

#[tokio::test]
async fn token_is_in_no_reason_or_summary() {
    let token = |settings: &mut IngesterSettings| settings.publisher.token = Some(Secret::new("s3cret"));
    let (report, _) = run_with(vec![error_status(401)], token).await;
    assert!(report.is_unrecoverable());
    assert!(!format!("{report:?}{}", report.summary()).contains("s3cret"));
}

#[tokio::test]
async fn hanging_publisher_ends_the_run_at_its_timeout() {
    let short_timeouts = |settings: &mut IngesterSettings| {
        settings.publisher.request_timeout = Duration::from_secs(1);
        settings.run.timeout = Duration::from_millis(2_500);
    };
    let (report, _) = run_with(vec![StubResponse::Hang; 100], short_timeouts).await;
    assert!(
        report
            .reason()
            .unwrap()
            .starts_with("the run exceeded run.timeout")
    );
    assert!(report.counts.accepted == 0 && report.counts.undelivered > 0);
}
