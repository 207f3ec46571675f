//! Scheduled runs, health endpoints and signals.

use std::time::Duration;

use testkit::randomuser::{Options, RandomUserApi};

use crate::ingester_process::Ingester;
use crate::publisher_stack::PublisherStack;

const TIMEOUT: Duration = Duration::from_secs(60);

async fn api() -> RandomUserApi {
    RandomUserApi::start(Options::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn service_runs_on_schedule_and_stops_on_sigterm() {
    let (api, stack) = (api().await, PublisherStack::start().await);
    let settings = [("RUN__USERS", "5"), ("SCHEDULE__INTERVAL", "300ms")];
    let ingester = Ingester::start(&["run"], &api.url(), &stack.url(), &settings);
    let complete = |body: &str| {
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix("ingester_runs_total{outcome=\"complete\"} "));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    };
    let metrics = ingester.wait_for("/metrics", |_, body| complete(body) >= 3).await;
    assert!(metrics.contains("ingester_requests_total{status=\"200\",upstream=\"source\"}"));
    assert_eq!(ingester.get("/healthz").await.0, 200);
    assert_eq!(ingester.get("/readyz").await.0, 200);
    let warned = "`state.path` is not set: runs, outbox and rate limit usage are lost on exit";
    assert!(ingester.log().contains(warned), "{}", ingester.log());
    let status = ingester.child.terminate(TIMEOUT).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", ingester.log());
    assert!(
        stack.topic_contents().await.runs().len() >= 3,
        "each run has its own id"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_reports_an_unreachable_publisher() {
    let api = api().await;
    // Port 9 (discard) is closed.
    let closed = "http://127.0.0.1:9";
    let ingester = Ingester::start(&["run"], &api.url(), closed, &[("RUN__USERS", "5")]);
    let body = ingester.wait_for("/readyz", |status, body| {
        status == 503 && body.contains("failed to reach the publisher")
    });
    assert!(body.await.contains("\"name\":\"publisher\""));
    assert_eq!(ingester.get("/healthz").await.0, 200, "a restart would not help");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_during_a_run_delivers_fetched_users_and_exits_0() {
    let (api, mut stack) = (api().await, PublisherStack::start().await);
    stack.publisher.kill().await.unwrap();
    let settings = [("RUN__USERS", "5000"), ("SOURCE__PAGE_SIZE", "5")];
    let ingester = Ingester::start(&["run"], &api.url(), &stack.url(), &settings);
    let full = |_: u16, body: &str| {
        body.contains("ingester_users_fetched_total 10\n") && body.contains("status=\"unreachable\"")
    };
    ingester.wait_for("/metrics", full).await;
    let ending = ingester.child.terminate(TIMEOUT);
    let returning = async { stack.publisher.spawn().unwrap() };
    let status = tokio::join!(ending, returning).0.unwrap();
    assert_eq!(status.code(), Some(0), "{}", ingester.log());
    assert!(
        ingester.log().contains("outcome=\"stopped\""),
        "{}",
        ingester.log()
    );
    assert_eq!(
        stack.topic_contents().await.written,
        10,
        "the page in delivery and the one fetched meanwhile"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_once_exits_1() {
    let (api, mut stack) = (api().await, PublisherStack::start().await);
    stack.publisher.kill().await.unwrap();
    let page = [("SOURCE__PAGE_SIZE", "5")];
    let ingester = Ingester::start(&["once", "--users", "5000"], &api.url(), &stack.url(), &page);
    let full = |_: u16, body: &str| {
        body.contains("ingester_users_fetched_total 10\n") && body.contains("status=\"unreachable\"")
    };
    ingester.wait_for("/metrics", full).await;
    let ending = ingester.child.terminate(TIMEOUT);
    let returning = async { stack.publisher.spawn().unwrap() };
    let status = tokio::join!(ending, returning).0.unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(
        (&ingester.summary()["outcome"], &ingester.summary()["accepted"]),
        (&"stopped".into(), &10.into())
    );
}
