//! The circuit breaker pauses requests to a failing API, then one probe decides.

use reqwest::Method;
use serde_json::Value;
use testkit::randomuser::Fault;

use crate::support::ingester_process::wait_for_admin;
use crate::support::ingester_service::{IngesterService, instant};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

#[tokio::test(flavor = "multi_thread")]
async fn open_circuit_breaker_probes_after_each_pause() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    // The third failure opens the breaker, and the first probe opens it again.
    api.inject(Fault::Unavailable, 4);
    let settings = [
        ("source.max_in_flight", "1"),
        ("source.backoff.initial", "1ms"),
        ("source.backoff.max", "5ms"),
        ("source.circuit_breaker.failures", "3"),
        ("source.circuit_breaker.open_duration", "2s"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    let open = |open: u8| {
        move |_: u16, body: &str| body.contains(&format!("ingester_source_circuit_breaker_open {open}\n"))
    };
    wait_for_admin(&service.ingester, "/metrics", open(1)).await;
    let run = service.wait_for_state(&run, "complete").await;
    wait_for_admin(&service.ingester, "/metrics", open(0)).await;
    assert_eq!(run["counts"]["retried"], 4);
    let took = instant(&run["ended"]).duration_since(instant(&run["started"]));
    assert!(took.as_secs() >= 4, "two pauses: {run}");
    assert_eq!(api.requests().len(), 6, "four failures and two pages");
    assert_eq!(stack.records_of(run["id"].as_str().unwrap()).await.len(), 10);
}
