//! What each answer of the publisher leads to, over real HTTP: from a stand-in, which gives each of them on a word, and
//! lies where the real one never does. What the real one can be made to say is in `real_answers` and `outages`.

use std::time::{Duration, Instant};

use ingester::config::IngesterSettings;
use ingester::delivery::compression::CompressionConfig;
use ingester::run::report::{Outcome, Report};
use serde_json::{Value, json};
use service::Secret;
use testkit::randomuser::{Options, RandomUserApi};

use crate::pipeline;
use crate::stub_publisher::{StubPublisher, StubResponse};

async fn run_with(
    answers: Vec<StubResponse>,
    change: impl FnOnce(&mut IngesterSettings),
) -> (Report, StubPublisher) {
    let api = RandomUserApi::start(Options::default()).await.unwrap();
    let publisher = StubPublisher::start().await;
    publisher.respond_with(answers);
    let mut settings = pipeline::settings(&api, &publisher.url());
    settings.publisher.request_timeout = Duration::from_secs(2);
    change(&mut settings);
    (pipeline::run(&settings).await, publisher)
}

fn says(status: u16) -> StubResponse {
    StubResponse::Status(status, None, json!({"title": "as the script says"}))
}

#[tokio::test]
async fn a_request_carries_run_number_type_and_token() {
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
async fn requests_share_one_connection_as_long_as_it_lives() {
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
async fn requests_are_compressed_as_configured_and_hold_the_same_records() {
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
async fn what_may_not_have_arrived_is_sent_again_under_the_same_number() {
    let answers = vec![
        says(503),
        says(504),
        says(500),
        says(408),
        StubResponse::Disconnect,
        StubResponse::Hang,
    ];
    let (report, publisher) = run_with(answers, |_| {}).await;
    assert!(matches!(report.outcome, Outcome::Complete));
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
async fn too_large_is_sent_in_halves() {
    let answers = vec![
        StubResponse::TooLargeAbove(1),
        StubResponse::TooLargeAbove(2),
        StubResponse::TooLargeAbove(2),
    ];
    let (report, publisher) = run_with(answers, |_| {}).await;
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (10, 10, 0));
    let numbers: Vec<_> = publisher
        .requests()
        .iter()
        .map(|request| (request.first, request.records.len()))
        .collect();
    assert_eq!(numbers, [(0, 5), (0, 2), (2, 3), (2, 1), (3, 2), (5, 5)]);
}

#[tokio::test]
async fn refused_records_keep_their_reasons_and_the_run_goes_on() {
    let (report, _) = run_with(vec![StubResponse::RejectFirst, StubResponse::RejectAll], |_| {}).await;
    assert!(matches!(report.outcome, Outcome::Rejected));
    assert_eq!((report.counts.accepted, report.counts.rejected), (4, 6));
    assert_eq!(report.counts.rejected_reasons["phone: is not to our liking"], 6);
}

#[tokio::test]
async fn an_answer_that_does_not_add_up_is_never_a_success() {
    let lies: [Value; 4] = [
        json!({"accepted": 4, "rejected": 0}),
        json!({"accepted": 6, "rejected": 0}),
        json!({}),
        json!("<html>"),
    ];
    for lie in lies {
        let answer = StubResponse::Status(200, None, lie.clone());
        let (report, _) = run_with(vec![answer.clone()], |_| {}).await;
        assert_eq!(
            pipeline::fetched_accepted_retried(&report.counts),
            (10, 10, 1),
            "{lie}"
        );
        let (report, _) = run_with(vec![answer; 6], |_| {}).await;
        let reason = report.reason().unwrap();
        assert!(
            reason.contains("6 answers in a row that do not add up"),
            "{reason}"
        );
        assert_eq!(report.counts.accepted, 0, "{lie}");
    }
}

#[tokio::test]
async fn a_definite_no_fails_the_run_with_the_reason() {
    for status in [301, 400, 404, 415, 502] {
        let (report, publisher) = run_with(vec![says(status)], |_| {}).await;
        let reason = report.reason().unwrap();
        assert_eq!(
            reason,
            format!("delivery ended: the publisher refused a request: answered {status}: as the script says")
        );
        assert_eq!((report.counts.accepted, publisher.requests().len()), (0, 1));
    }
}

#[tokio::test]
async fn a_token_in_no_log_reason_or_summary() {
    let token = |settings: &mut IngesterSettings| settings.publisher.token = Some(Secret::new("s3cret"));
    let (report, _) = run_with(vec![says(401)], token).await;
    assert!(report.is_unrecoverable());
    assert!(!format!("{report:?}{}", report.summary()).contains("s3cret"));
}

#[tokio::test]
async fn a_publisher_that_never_answers_ends_the_run_at_its_deadline() {
    let impatient = |settings: &mut IngesterSettings| {
        settings.publisher.request_timeout = Duration::from_secs(1);
        settings.run.timeout = Duration::from_millis(2_500);
    };
    let (report, _) = run_with(vec![StubResponse::Hang; 100], impatient).await;
    assert!(
        report
            .reason()
            .unwrap()
            .starts_with("not done within run.timeout")
    );
    assert!(report.counts.accepted == 0 && report.counts.undelivered > 0);
}
