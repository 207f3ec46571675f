//! Responses of the real publisher with real Kafka; the topic is read back. Responses that it can't be made to send are
//! in `publisher_responses`.

use std::time::{Duration, Instant};

use ingester::config::IngesterSettings;
use ingester::run::report::{Report, RunError, RunOutcome};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};
use service::Secret;
use testkit::proxy::{Behavior, Direction, Flow, Proxy};
use testkit::randomuser::{Fault, Options, RandomUserApi};

use crate::support::TIMEOUT;
use crate::support::ingester_process::{exit_code, run_summary, start_ingester, wait_until_accepted};
use crate::support::offline_api::start_api;
use crate::support::pipeline;
use crate::support::publisher_stack::PublisherStack;
use crate::support::token_file::{TOKEN, tokens_file};

/// Executes a run of ten users with a fixed seed, in pages of five.
async fn run_to(url: &str, change: impl FnOnce(&mut IngesterSettings)) -> Report {
    let api = start_api().await;
    let mut settings = pipeline::settings(&api, url);
    settings.publisher.max_in_flight = IngesterSettings::default().publisher.max_in_flight;
    settings.run.seed = Some("abc".parse().unwrap());
    change(&mut settings);
    pipeline::run(&settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_records_are_counted_and_others_delivered() {
    let open = PublisherStack::shared().await;
    let report = run_to(&open.url(), |_| {}).await;
    let records = open.records_of(report.run).await;
    assert_eq!((records.len(), report.counts.accepted), (10, 10));
    let length = |record: &Value| record.to_string().len();
    let mut lengths: Vec<_> = records.iter().map(length).collect();
    lengths.sort_unstable();
    let limit = lengths[6];

    // A lower limit rejects records; both services validate by the same rules, so nothing else would.
    let narrow = PublisherStack::with(&[("limits.max_record", &format!("{limit} B"))]).await;
    let report = run_to(&narrow.url(), |_| {}).await;
    let numbers = |fits: bool| -> Vec<u64> {
        let numbered = (0..).zip(&records);
        let chosen = numbered.filter(|(_, record)| (length(record) <= limit) == fits);
        chosen.map(|(number, _)| number).collect()
    };
    let (fit, unfit) = (numbers(true), numbers(false));
    assert!(!unfit.is_empty() && fit.len() >= 7);
    assert!(matches!(report.outcome, RunOutcome::Rejected), "{report:?}");
    let counts = (report.counts.accepted, report.counts.rejected);
    assert_eq!(counts, (fit.len() as u64, unfit.len() as u64));
    assert_eq!(report.counts.rejected_reasons.len(), 1, "{:?}", report.counts);
    let topic = narrow.topic_contents().await;
    assert_eq!(
        (topic.numbers_of(report.run), topic.written),
        (fit, 10 - unfit.len())
    );

    let none = PublisherStack::with(&[("limits.max_record", "10 B")]).await;
    let report = run_to(&none.url(), |_| {}).await;
    assert_too_many_invalid(&report);
    assert_eq!((report.counts.accepted, report.counts.rejected), (0, 10));
    assert_eq!(none.topic_contents().await.written, 0);
}

/// A run whose records are all rejected has failed, although the publisher has responded to each.
fn assert_too_many_invalid(report: &Report) {
    let is_expected = matches!(report.outcome, RunOutcome::Failed(RunError::InvalidUsers { .. }));
    assert!(is_expected, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_request_is_split_and_written_once() {
    let stack = PublisherStack::with(&[("limits.max_records", "2")]).await;
    let report = run_to(&stack.url(), |_| {}).await;
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (10, 10, 0));
    let topic = stack.topic_contents().await;
    assert_eq!((topic.records_of(report.run).len(), topic.written), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn publisher_rate_limit_delays_without_duplicates() {
    let stack = PublisherStack::with(&[("rate_limit.requests_per_second", "4")]).await;
    let started = Instant::now();
    let report = run_to(&stack.url(), |settings| settings.publisher.batch_size = 1).await;
    assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    assert!(report.counts.retried > 0, "{:?}", report.counts);
    assert!(
        started.elapsed() > Duration::from_secs(1),
        "it honoured Retry-After"
    );
    let topic = stack.topic_contents().await;
    assert_eq!((topic.records_of(report.run).len(), topic.written), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_response_is_retried_without_duplicates() {
    let stack = PublisherStack::start().await;
    let publisher = stack.url().trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(publisher).await.unwrap();
    proxy.set(Behavior::one_way(Direction::ToClient, Flow::hold()));
    let url = format!("http://{}", proxy.address());
    let losing = run_to(&url, |settings| {
        settings.publisher.request_timeout = Duration::from_millis(500)
    });
    let restoring = async {
        let until = Instant::now() + TIMEOUT;
        // A timed-out connection is dropped, so the third connection is the second retry.
        while stack.topic_contents().await.written < 10 || proxy.accepted() < 3 {
            assert!(
                Instant::now() < until,
                "nothing was written, or there was no retry"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        proxy.set(Behavior::default());
        proxy.reset();
    };
    let (report, ()) = tokio::join!(losing, restoring);
    assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    assert!(report.counts.retried >= 2, "{:?}", report.counts);
    let topic = stack.topic_contents().await;
    assert_eq!((topic.records_of(report.run).len(), topic.written), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_token_writes_nothing_and_is_unrecoverable() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens_file(folder.path(), TOKEN);
    let stack = PublisherStack::with(&[("auth.tokens_path", &tokens)]).await;
    for (token, status) in [(None, 401), (Some("wrong"), 403)] {
        let report = run_to(&stack.url(), |settings| {
            settings.publisher.token = token.map(Secret::new)
        })
        .await;
        assert!(report.is_unrecoverable());
        let expected = format!("the publisher responded with {status}; check publisher.token");
        assert!(
            report.reason().unwrap().ends_with(&expected),
            "{:?}",
            report.reason()
        );
        assert_eq!(report.counts.accepted, 0);
    }
    assert_eq!(stack.topic_contents().await.written, 0);
    let report = run_to(&stack.url(), |settings| {
        settings.publisher.token = Some(Secret::new(TOKEN))
    })
    .await;
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (10, 10, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_token_ends_the_process_and_the_next_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens_file(folder.path(), TOKEN);
    let settings = [
        ("auth.tokens_path", tokens.as_str()),
        ("http.reload_interval", "50ms"),
    ];
    let stack = PublisherStack::with(&settings).await;
    let api = RandomUserApi::start(Options::unlimited()).await.unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let once = |token| {
        let settings = [
            ("state.path", state.as_str()),
            ("source.page_size", "250"),
            ("source.rate_limit.users", "1000000"),
            ("publisher.batch_size", "50"),
            ("publisher.token", token),
        ];
        start_ingester(&["once", "--users", "20000"], &api.url(), &stack.url(), &settings)
    };
    let first = once(TOKEN);
    wait_until_accepted(&first, 1_000).await;
    // Keeps the run active until the publisher has reloaded the file.
    api.inject(Fault::Hang(Some(Duration::from_secs(5))), 2);
    tokens_file(folder.path(), "the-next-one");
    assert_eq!(exit_code(&first).await, Some(78), "{}", first.log());
    let second = once("the-next-one");
    assert_eq!(exit_code(&second).await, Some(0), "{}", second.log());
    let summary = run_summary(&second);
    assert_eq!(
        (&summary["outcome"], &summary["fetched"]),
        (&"complete".into(), &20_000.into())
    );
    assert_eq!(run_summary(&first)["run"], summary["run"], "the same run");
    let topic = stack.topic_contents().await;
    let records = topic.records_of(summary["run"].as_str().unwrap());
    assert_eq!(
        (json!(records.len()), topic.written),
        (summary["accepted"].clone(), records.len())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_above_the_topics_limit_are_rejected() {
    let kafka = crate::support::publisher_stack::brokers().await;
    let name = format!("users_{}", uuid::Uuid::new_v4().simple());
    let mut topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    topic.config = vec![("max.message.bytes", "100")];
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &kafka)
        .create()
        .unwrap();
    let created = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    created[0].as_ref().unwrap();
    let stack = PublisherStack::over(&kafka, &[("kafka.topic", &name)]).await;
    let report = run_to(&stack.url(), |_| {}).await;
    assert_too_many_invalid(&report);
    assert_eq!(report.counts.rejected, report.counts.fetched);
    assert_eq!(
        (report.counts.accepted, stack.topic_contents().await.written),
        (0, 0)
    );
}
