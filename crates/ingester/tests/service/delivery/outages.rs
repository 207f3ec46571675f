//! Outages of publisher and Kafka: counts equal the contents of the topic, and an outage only delays a run.

use std::time::{Duration, Instant};

use ingester::store::Store;
use testkit::randomuser::{Options, RandomUserApi};
use testkit::service::Service;

use crate::support::TIMEOUT;
use crate::support::ingester_process::{
    exit_code, metric, run_summary, start_ingester, wait_for_admin, wait_until_accepted,
};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::{PublisherStack, own_kafka};

#[tokio::test(flavor = "multi_thread")]
async fn killed_or_frozen_publisher_loses_no_record() {
    let mut stack = PublisherStack::start().await;
    let api = RandomUserApi::start(Options::unlimited()).await.unwrap();
    let settings = [
        ("source.page_size", "500"),
        ("source.rate_limit.users", "1000000"),
        ("publisher.batch_size", "50"),
        ("publisher.backoff.max", "200ms"),
        ("publisher.request_timeout", "3s"),
    ];
    let ingester = start_ingester(&["once", "--users", "40000"], &api.url(), &stack.url(), &settings);
    for kill in 1..=3 {
        wait_until_accepted(&ingester, kill * 4_000).await;
        stack.publisher.kill().await.unwrap();
        wait_for_admin(&ingester, "/readyz", |status, body| {
            status == 503 && body.contains("publisher")
        })
        .await;
        stack.publisher.spawn().unwrap();
        wait_for_admin(&ingester, "/readyz", |status, _| status == 200).await;
    }
    wait_until_accepted(&ingester, 16_000).await;
    let publisher = stack.publisher.child().unwrap();
    publisher.freeze().await.unwrap();
    wait_for_admin(&ingester, "/readyz", |status, _| status == 503).await;
    publisher.thaw().unwrap();
    assert_eq!(exit_code(&ingester).await, Some(0), "{}", ingester.log());

    let summary = run_summary(&ingester);
    assert_eq!(
        (&summary["fetched"], &summary["rejected"]),
        (&40_000.into(), &0.into()),
        "{summary}"
    );
    assert!(summary["retried"].as_u64().unwrap() > 0, "{summary}");
    let accepted = summary["accepted"].as_u64().unwrap();
    assert_eq!(accepted + summary["duplicate"].as_u64().unwrap(), 40_000);
    let topic = stack.topic_contents().await;
    let records = topic.records_of(summary["run"].as_str().unwrap());
    assert_eq!(
        records.len() as u64,
        accepted,
        "Kafka holds exactly the accepted users"
    );
    assert_eq!(topic.runs().len(), 1);
}

/// Length of the outage. The state is steady once the outbox is full.
const OUTAGE: Duration = Duration::from_secs(6);
const PAGE: u64 = 250;
const OUTBOX: usize = 6;

/// Shortens the outage (an hour), the maximum backoff (5 s) and the publisher's message timeout (12 s). A unit test of
/// `pipeline` covers an hour with the defaults.
#[tokio::test(flavor = "multi_thread")]
async fn outage_of_kafka_and_publisher_only_delays_the_run() {
    let kafka = own_kafka().await;
    let api = RandomUserApi::start(Options::unlimited()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = [("kafka.message_timeout", "2s")];
    let mut stack = PublisherStack::over(&kafka.bootstrap(), &settings).await;
    let state = folder.path().join("state.db");
    let (path, page, outbox) = (state.display().to_string(), PAGE.to_string(), OUTBOX.to_string());
    let settings = [
        ("state.path", path.as_str()),
        ("state.outbox_pages", &outbox),
        ("source.page_size", &page),
        ("source.rate_limit.users", "1000000"),
        ("publisher.batch_size", "50"),
        ("publisher.backoff.max", "200ms"),
        ("publisher.compression", "gzip"),
    ];
    let ingester = start_ingester(&["once", "--users", "20000"], &api.url(), &stack.url(), &settings);
    wait_until_accepted(&ingester, 1_000).await;

    kafka.node(0).unwrap().freeze().await.unwrap();
    let store = Store::open_shared(&state).unwrap();
    let run = store.unfinished_runs().unwrap()[0].id;
    let until = Instant::now() + TIMEOUT;
    while store.pending_pages(run).unwrap() < OUTBOX {
        assert!(
            Instant::now() < until,
            "the outbox never filled:\n{}",
            ingester.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let requested = api.requests().len();
    // First Kafka is frozen and the publisher responds; then the publisher is killed, too.
    for (statuses, kill) in [(&["503", "504"][..], false), (&["unreachable"][..], true)] {
        if kill {
            stack.publisher.kill().await.unwrap();
        }
        let (least, until) = (Instant::now() + OUTAGE / 2, Instant::now() + TIMEOUT);
        while Instant::now() < least || !has_statuses(&ingester, statuses).await {
            let topic = (store.pending_pages(run).unwrap(), api.requests().len());
            assert_eq!(topic, (OUTBOX, requested));
            assert!(Instant::now() < until, "{statuses:?}:\n{}", ingester.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert!(
        ingester.get("/readyz").await.unwrap().0 == 503 && ingester.get("/healthz").await.unwrap().0 == 200
    );
    kafka.node(0).unwrap().thaw().unwrap();
    stack.publisher.spawn().unwrap();
    assert_eq!(exit_code(&ingester).await, Some(0), "{}", ingester.log());

    let summary = run_summary(&ingester);
    let accepted = summary["accepted"].as_u64().unwrap();
    assert_eq!(
        (&summary["fetched"], &summary["undelivered"]),
        (&20_000.into(), &0.into())
    );
    assert_eq!(
        accepted + summary["duplicate"].as_u64().unwrap(),
        20_000,
        "{summary}"
    );
    assert_eq!(
        api.requests().len() as u64,
        20_000 / PAGE,
        "no page was fetched twice"
    );
    let records = stack.records_of(summary["run"].as_str().unwrap()).await;
    assert_eq!(records.len() as u64, accepted);
}

/// Whether requests to the publisher had each of these statuses.
async fn has_statuses(ingester: &Service, statuses: &[&str]) -> bool {
    let Ok((_, metrics)) = ingester.get("/metrics").await else {
        return false;
    };
    statuses.iter().all(|status| {
        let series = format!("ingester_requests_total{{status=\"{status}\",upstream=\"publisher\"}}");
        metrics.contains(&series)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn publisher_outage_applies_backpressure_to_fetching() {
    let api = start_api().await;
    let mut stack = PublisherStack::start().await;
    stack.publisher.kill().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [
        ("state.path", state.as_str()),
        ("state.outbox_pages", "4"),
        ("source.page_size", "5"),
        ("publisher.backoff.max", "200ms"),
    ];
    let ingester = start_ingester(&["once", "--users", "100"], &api.url(), &stack.url(), &settings);
    let fetched = |count: u64| {
        move |_: u16, body: &str| body.contains(&format!("ingester_users_fetched_total {count}\n"))
    };
    wait_for_admin(&ingester, "/metrics", fetched(20)).await;
    let resent = |body: &str| metric(body, "ingester_retries_total{upstream=\"publisher\"}");
    let before = resent(&ingester.get("/metrics").await.unwrap().1);
    let later = wait_for_admin(&ingester, "/metrics", |_, body| resent(body) >= before + 5).await;
    assert!(
        fetched(20)(200, &later),
        "the outbox is full, and only delivery continues"
    );
    stack.publisher.spawn().unwrap();
    assert_eq!(exit_code(&ingester).await, Some(0), "{}", ingester.log());
    let topic = stack.topic_contents().await;
    let records = topic.records_of(run_summary(&ingester)["run"].as_str().unwrap());
    assert_eq!((records.len(), topic.written), (100, 100));
    assert_eq!(api.requests().len(), 20);
}
