//! The circuit breaker pauses requests to a failing API, then one probe decides.

use reqwest::Method;
use serde_json::Value;
use testkit::randomuser::{Fault, Options, RandomUserApi};

use crate::ingester_service::{IngesterService, instant, path};
use crate::publisher_stack::PublisherStack;

#[tokio::test(flavor = "multi_thread")]
async fn open_circuit_breaker_probes_after_each_pause() {
    let (api, stack) = (
        RandomUserApi::start(Options::default()).await.unwrap(),
        PublisherStack::shared().await,
    );
    // The third failure opens the breaker, and the first probe opens it again.
    api.inject(Fault::Unavailable, 4);
    let settings = [
        ("SOURCE__MAX_IN_FLIGHT", "1"),
        ("SOURCE__BACKOFF__INITIAL", "1ms"),
        ("SOURCE__BACKOFF__MAX", "5ms"),
        ("SOURCE__CIRCUIT_BREAKER__FAILURES", "3"),
        ("SOURCE__CIRCUIT_BREAKER__OPEN_DURATION", "2s"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    let open = |open: u8| {
        move |_: u16, body: &str| body.contains(&format!("ingester_source_circuit_breaker_open {open}\n"))
    };
    service.ingester.wait_for("/metrics", open(1)).await;
    let run = service
        .wait_for(&path(&run), |run| run["state"] == "complete")
        .await;
    service.ingester.wait_for("/metrics", open(0)).await;
    assert_eq!(run["counts"]["retried"], 4);
    let took = instant(&run["ended"]).duration_since(instant(&run["started"]));
    assert!(took.as_secs() >= 4, "two pauses: {run}");
    assert_eq!(api.requests().len(), 6, "four failures and two pages");
    assert_eq!(stack.records_of(run["id"].as_str().unwrap()).await.len(), 10);
}
