//! Scheduled runs, health endpoints and signals.

use testkit::service::Service;

use crate::support::TIMEOUT;
use crate::support::ingester_process::{metric, run_summary, start_ingester, wait_for_admin};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

#[tokio::test(flavor = "multi_thread")]
async fn service_runs_on_schedule_and_stops_on_sigterm() {
    let (api, stack) = (start_api().await, PublisherStack::start().await);
    let settings = [("run.users", "5"), ("schedule.interval", "300ms")];
    let mut ingester = start_ingester(&["run"], &api.url(), &stack.url(), &settings);
    let complete = |body: &str| metric(body, "ingester_runs_total{outcome=\"complete\"}");
    let metrics = wait_for_admin(&ingester, "/metrics", |_, body| complete(body) >= 3).await;
    assert!(metrics.contains("ingester_requests_total{status=\"200\",upstream=\"source\"}"));
    assert_eq!(ingester.get("/healthz").await.unwrap().0, 200);
    assert_eq!(ingester.get("/readyz").await.unwrap().0, 200);
    let warned = "`state.path` is not set: runs, outbox and rate limit usage are lost on exit";
    assert!(ingester.log().contains(warned), "{}", ingester.log());
    let code = ingester.terminate(TIMEOUT).await.unwrap();
    assert_eq!(code, Some(0), "{}", ingester.log());
    assert!(
        stack.topic_contents().await.runs().len() >= 3,
        "each run has its own id"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_reports_an_unreachable_publisher() {
    let api = start_api().await;
    // Port 9 (discard) is closed.
    let closed = "http://127.0.0.1:9";
    let ingester = start_ingester(&["run"], &api.url(), closed, &[("run.users", "5")]);
    let body = wait_for_admin(&ingester, "/readyz", |status, body| {
        status == 503 && body.contains("failed to reach the publisher")
    });
    assert!(body.await.contains("\"name\":\"publisher\""));
    assert_eq!(
        ingester.get("/healthz").await.unwrap().0,
        200,
        "a restart would not help"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_during_a_run_delivers_fetched_users_and_exits_0() {
    let (api, mut stack) = (start_api().await, PublisherStack::start().await);
    stack.publisher.kill().await.unwrap();
    let settings = [("run.users", "5000"), ("source.page_size", "5")];
    let mut ingester = start_ingester(&["run"], &api.url(), &stack.url(), &settings);
    let code = terminate_with_two_pages(&mut ingester, &mut stack).await;
    assert_eq!(code, Some(0), "{}", ingester.log());
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
    let (api, mut stack) = (start_api().await, PublisherStack::start().await);
    stack.publisher.kill().await.unwrap();
    let page = [("source.page_size", "5")];
    let mut ingester = start_ingester(&["once", "--users", "5000"], &api.url(), &stack.url(), &page);
    let code = terminate_with_two_pages(&mut ingester, &mut stack).await;
    assert_eq!(code, Some(1));
    assert_eq!(
        (
            &run_summary(&ingester)["outcome"],
            &run_summary(&ingester)["accepted"]
        ),
        (&"stopped".into(), &10.into())
    );
}

/// Terminates an ingester that has a page in delivery and one fetched meanwhile, while its publisher starts. Returns the exit
/// code.
async fn terminate_with_two_pages(ingester: &mut Service, stack: &mut PublisherStack) -> Option<i32> {
    let full = |_: u16, body: &str| {
        body.contains("ingester_users_fetched_total 10\n") && body.contains("status=\"unreachable\"")
    };
    wait_for_admin(ingester, "/metrics", full).await;
    let ending = ingester.terminate(TIMEOUT);
    let returning = async { stack.publisher.spawn().unwrap() };
    tokio::join!(ending, returning).0.unwrap()
}
