//! `run.timeout` with a slow API and with a slow publisher.

use ingester::store::Store;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::randomuser::Fault;

use crate::support::ingester_process::{exit_code, run_summary, start_ingester};
use crate::support::ingester_service::{IngesterService, instant};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

const REASON: &str = "the run exceeded run.timeout of 2s";

#[tokio::test(flavor = "multi_thread")]
async fn timed_out_run_keeps_delivered_records_and_is_retried() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    // The second page never arrives. Requests are sequential, or it may be the first page.
    api.inject(Fault::Hang(Some(std::time::Duration::ZERO)), 1);
    api.inject(Fault::Hang(None), 1);
    let settings = [
        ("run.timeout", "2s"),
        ("source.max_in_flight", "1"),
        ("schedule.retry_delay", "200ms"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    let run = service.wait_for_state(&run, "failed").await;
    assert_eq!(run["reason"], REASON);
    let took = instant(&run["ended"]).duration_since(instant(&run["started"]));
    assert!(took.as_secs() >= 2, "{run}");
    let counts = &run["counts"];
    let records = stack.records_of(run["id"].as_str().unwrap()).await;
    assert_eq!(
        (&counts["requested"], &counts["accepted"]),
        (&10.into(), &json!(records.len()))
    );
    assert_eq!(
        counts["fetched"].as_u64().unwrap(),
        records.len() as u64 + counts["undelivered"].as_u64().unwrap(),
        "{run}"
    );

    // The retry has the full timeout, and fetches the page that is not delivered.
    let runs = service
        .wait_for("/v1/runs?trigger=retry&state=complete", |runs| {
            !runs["runs"][0].is_null()
        })
        .await;
    let retry = &runs["runs"][0];
    assert_eq!((&retry["seed"], &retry["retry"]), (&run["seed"], &1.into()));
    let rest = stack.records_of(retry["id"].as_str().unwrap()).await;
    assert_eq!(
        (&retry["pages"], records.len(), rest.len()),
        (&"2..2".into(), 5, 5)
    );
    assert!(rest.iter().all(|record| !records.contains(record)));
    let metrics = service.ingester.get("/metrics").await.unwrap().1;
    for ended in ["failed", "complete"] {
        assert!(metrics.contains(&format!("ingester_runs_total{{outcome=\"{ended}\"}} 1\n")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn timed_out_once_exits_1_and_deletes_undelivered_data() {
    let (api, mut stack) = (start_api().await, PublisherStack::start().await);
    stack.publisher.kill().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db");
    let text = state.display().to_string();
    let settings = [
        ("run.timeout", "2s"),
        ("source.page_size", "5"),
        ("state.path", text.as_str()),
    ];
    let ingester = start_ingester(&["once", "--users", "10"], &api.url(), &stack.url(), &settings);
    assert_eq!(exit_code(&ingester).await, Some(1), "{}", ingester.log());
    let summary = run_summary(&ingester);
    assert_eq!(
        (&summary["outcome"], &summary["reason"], &summary["accepted"]),
        (&"failed".into(), &REASON.into(), &0.into())
    );
    assert!(summary["fetched"] == summary["undelivered"], "{summary}");
    let store = Store::open_shared(&state).unwrap();
    assert!(
        store.unfinished_runs().unwrap().is_empty(),
        "the run has ended and is not resumed"
    );
    let run = summary["run"].as_str().unwrap().parse().unwrap();
    assert_eq!(store.pending_pages(run).unwrap(), 0);
}
