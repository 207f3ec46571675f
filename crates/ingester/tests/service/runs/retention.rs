//! Retention of runs by number and by age, with their rejected records.

use std::time::Instant;

use ingester::store::Store;
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::TIMEOUT;
use crate::support::ingester_process::read_state;
use crate::support::ingester_service::{IngesterService, instant, path};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

/// Executes a run until its end.
async fn run(service: &IngesterService) -> Value {
    let (_, run) = service.send(Method::POST, "/v1/runs", json!({"users": 5})).await;
    service
        .wait_for(&path(&run), |run| run["ended"].is_string())
        .await;
    // The end is visible before old runs are pruned.
    service
        .wait_for("/v1/schedule", |plan| plan["running"].is_null())
        .await;
    service.get(&path(&run)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_beyond_the_number_are_deleted_with_their_records() {
    let api = start_api().await;
    let narrow = PublisherStack::with(&[("limits.max_record", "10 B")]).await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db");
    let text = state.display().to_string();
    let settings = [("state.path", text.as_str()), ("state.retention.runs", "2")];
    let service = IngesterService::start(&api.url(), &narrow.url(), &settings).await;
    let mut runs = Vec::new();
    for _ in 0..4 {
        let run = run(&service).await;
        assert_eq!(
            (&run["state"], run["rejected_records"].as_array().unwrap().len()),
            (&"failed".into(), 5)
        );
        runs.push(run);
    }
    let store = Store::open_shared(&state).unwrap();
    for (run, kept) in runs.iter().zip([false, false, true, true]) {
        let status = service.send(Method::GET, &path(run), Value::Null).await.0;
        assert_eq!(status == StatusCode::OK, kept, "{status}");
        let id = run["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(
            store.rejected_records(id, 10).unwrap().len(),
            if kept { 5 } else { 0 }
        );
    }
    let listed = read_state(&["runs", "list", "--json"], &text);
    let ids: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids, [runs[3]["id"].clone(), runs[2]["id"].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_beyond_the_age_are_deleted_when_the_next_ends() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [("state.path", state.as_str()), ("state.retention.age", "3s")];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let first = run(&service).await;
    let until = Instant::now() + TIMEOUT;
    let last = loop {
        let last = run(&service).await;
        let status = service.send(Method::GET, &path(&first), Value::Null).await.0;
        if status == StatusCode::NOT_FOUND {
            break last;
        }
        assert!(Instant::now() < until, "{status}");
    };
    let age = Timestamp::now().duration_since(instant(&first["ended"]));
    assert!(age.as_secs() >= 3, "{age}");
    let runs = service.get("/v1/runs?limit=500").await;
    let runs = runs["runs"].as_array().unwrap();
    assert_eq!(runs[0]["id"], last["id"]);
    let young = |run: &Value| {
        instant(&last["ended"])
            .duration_since(instant(&run["ended"]))
            .as_secs()
            < 4
    };
    assert!(runs.iter().all(young), "{runs:?}");
}
