//! `run.timeout`: what becomes of a run that is not done by then, whichever side keeps it.

use ingester::store::Store;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::randomuser::{Fault, Options, RandomUserApi};

use crate::ingester_process::Ingester;
use crate::ingester_service::{IngesterService, instant, path};
use crate::publisher_stack::PublisherStack;

const REASON: &str = "not done within run.timeout, 2s";

async fn api() -> RandomUserApi {
    RandomUserApi::start(Options::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_past_its_deadline_fails_with_what_it_has_delivered_and_is_tried_again() {
    let (api, stack) = (api().await, PublisherStack::shared().await);
    // The second page never comes: one after the other, or it may be the first.
    api.inject(Fault::Hang(Some(std::time::Duration::ZERO)), 1);
    api.inject(Fault::Hang(None), 1);
    let settings = [
        ("RUN__TIMEOUT", "2s"),
        ("SOURCE__MAX_IN_FLIGHT", "1"),
        ("SCHEDULE__RETRY_DELAY", "200ms"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    let run = service.until(&path(&run), |run| run["state"] == "failed").await;
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

    // It has its whole time, and the same users.
    let runs = service
        .until("/v1/runs?trigger=retry&state=complete", |runs| {
            !runs["runs"][0].is_null()
        })
        .await;
    let retry = &runs["runs"][0];
    assert_eq!((&retry["seed"], &retry["retry"]), (&run["seed"], &1.into()));
    let all = stack.records_of(retry["id"].as_str().unwrap()).await;
    assert_eq!((all.len(), &all[..records.len()]), (10, &records[..]));
    let metrics = service.ingester.get("/metrics").await.1;
    for ended in ["failed", "complete"] {
        assert!(metrics.contains(&format!("ingester_runs_total{{outcome=\"{ended}\"}} 1\n")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn once_past_its_deadline_exits_1_counts_what_nobody_took_and_leaves_no_one_s_data_behind() {
    let (api, mut stack) = (api().await, PublisherStack::start().await);
    stack.publisher.kill().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db");
    let text = state.display().to_string();
    let settings = [
        ("RUN__TIMEOUT", "2s"),
        ("SOURCE__PAGE_SIZE", "5"),
        ("STATE__PATH", text.as_str()),
    ];
    let ingester = Ingester::start(&["once", "--users", "10"], &api.url(), &stack.url(), &settings);
    assert_eq!(ingester.exit_code().await, Some(1), "{}", ingester.log());
    let summary = ingester.summary();
    assert_eq!(
        (&summary["outcome"], &summary["reason"], &summary["accepted"]),
        (&"failed".into(), &REASON.into(), &0.into())
    );
    assert!(summary["fetched"] == summary["undelivered"], "{summary}");
    let store = Store::open_shared(&state).unwrap();
    assert!(
        store.unfinished_runs().unwrap().is_empty(),
        "it is over, and nobody goes on with it"
    );
    let run = summary["run"].as_str().unwrap().parse().unwrap();
    assert_eq!(store.pending_pages(run).unwrap(), 0);
}
