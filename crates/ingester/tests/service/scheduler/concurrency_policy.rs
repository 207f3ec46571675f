//! Runs that wait for the active run: one scheduled run by `schedule.concurrency_policy = queue`, and requested runs.

use std::time::Duration;

use jiff::SignedDuration;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::randomuser::Fault;

use crate::support::TIMEOUT;
use crate::support::ingester_service::{IngesterService, instant, path};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

/// Returns the scheduled runs, oldest first.
fn scheduled(runs: &Value) -> Vec<Value> {
    let mut runs = runs["runs"].as_array().unwrap().clone();
    runs.retain(|run| run["scheduled"].is_string());
    runs.sort_by_key(|run| instant(&run["scheduled"]));
    runs
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_overlapping_start_is_queued_others_are_skipped() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    // Two starts overlap the first run, which ends well before the third one.
    api.inject(Fault::Hang(Some(Duration::from_secs(9))), 1);
    let settings = [
        ("schedule.cron", "*/4 * * * * *"),
        ("schedule.concurrency_policy", "queue"),
        ("run.users", "5"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let every = SignedDuration::from_secs(4);
    let first = service
        .wait_for("/v1/runs?state=running", |runs| !runs["runs"][0].is_null())
        .await["runs"][0]
        .clone();
    let reported = |plan: &Value| plan["running"] == first["id"] && plan["next_start"].is_string();
    let due = instant(&first["scheduled"]);
    service
        .wait_for("/v1/schedule", |plan| {
            reported(plan) && instant(&plan["next_start"]) >= due + every
        })
        .await;
    let runs = service
        .wait_for("/v1/runs?limit=500", |runs| {
            scheduled(runs)
                .get(2)
                .is_some_and(|run| run["state"] == "complete")
        })
        .await;
    let runs = scheduled(&runs);
    for (run, start) in runs.iter().zip(0..3) {
        assert_eq!(run["trigger"], "schedule", "{run}");
        assert_eq!(instant(&run["scheduled"]), due + every * start, "{run}");
    }
    let skipped = (&runs[1]["state"], &runs[1]["reason"], &runs[1]["started"]);
    assert_eq!(
        skipped,
        (
            &"skipped".into(),
            &"skipped: another run was active".into(),
            &Value::Null
        )
    );
    let (first, queued) = (&runs[0], &runs[2]);
    assert_eq!(first["state"], "complete");
    assert!(
        instant(&queued["scheduled"]) < instant(&first["ended"]),
        "{runs:?}"
    );
    assert!(
        instant(&queued["started"]) >= instant(&first["ended"]),
        "{runs:?}"
    );
    let metrics = service.ingester.get("/metrics").await.unwrap().1;
    assert!(metrics.contains("ingester_starts_skipped_total 1\n"), "{metrics}");
    for run in [first, queued] {
        assert_eq!(stack.records_of(run["id"].as_str().unwrap()).await.len(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requested_run_does_not_skip_a_scheduled_start() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let settings = [
        ("schedule.cron", "*/5 * * * * *"),
        ("schedule.catch_up", "none"),
        ("run.users", "5"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let complete = |runs: &Value| !scheduled(runs).is_empty() && runs["runs"][0]["ended"].is_string();
    service.wait_for("/v1/runs", complete).await;
    // It lasts longer than the time to the next start, which is therefore due while it is active.
    api.inject(Fault::Hang(Some(Duration::from_secs(6))), 1);
    let (_, requested) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    let requested = service
        .wait_for(&path(&requested), |run| run["ended"].is_string())
        .await;
    let runs = service
        .wait_for("/v1/runs", |runs| {
            runs["runs"][0]["scheduled"].is_string() && runs["runs"][0]["state"] == "complete"
        })
        .await;
    let delayed = |run: &&Value| {
        let during = instant(&requested["started"])..instant(&requested["ended"]);
        run["trigger"] == "schedule" && during.contains(&instant(&run["scheduled"]))
    };
    let runs = scheduled(&runs);
    let delayed: Vec<_> = runs.iter().filter(delayed).collect();
    assert!(
        delayed.iter().any(|run| run["state"] == "complete"),
        "{requested} {delayed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requested_run_waits_and_can_be_cancelled() {
    let (api, stack) = (start_api().await, PublisherStack::start().await);
    api.inject(Fault::Hang(None), 1);
    let settings = [("source.max_in_flight", "1")];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let request = async || service.send(Method::POST, "/v1/runs", Value::Null).await;
    let cancel = async |run: &Value| service.send(Method::DELETE, &path(run), Value::Null).await.0;
    let (_, first) = request().await;
    service.wait_for_state(&first, "running").await;
    // A run that is cancelled before its request would leave the fault to the last one.
    let requested = async {
        while api.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, requested).await.unwrap();
    let (status, cancelled) = request().await;
    assert_eq!(
        (status, &cancelled["state"]),
        (StatusCode::ACCEPTED, &"queued".into())
    );
    let (status, last) = request().await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(cancel(&cancelled).await, StatusCode::NO_CONTENT);
    assert_eq!(cancel(&first).await, StatusCode::ACCEPTED);
    let last = service.wait_for_state(&last, "complete").await;

    // All runs, page by page.
    let (mut page, mut runs) = (Some("/v1/runs?limit=1".to_owned()), Vec::new());
    while let Some(path) = page {
        let response = service.get(&path).await;
        runs.extend(response["runs"].as_array().unwrap().clone());
        page = response["next"].as_str().map(str::to_owned);
    }
    let reported: Vec<_> = runs
        .iter()
        .map(|run| json!([run["id"], run["state"], run["started"].is_string()]))
        .collect();
    let expected = [
        json!([last["id"], "complete", true]),
        json!([cancelled["id"], "cancelled", false]),
        json!([first["id"], "cancelled", true]),
    ];
    assert_eq!(reported, expected);
    assert_eq!(runs[1]["reason"], "cancelled before it started");
    assert!(
        instant(&last["started"]) >= instant(&runs[2]["ended"]),
        "{runs:?}"
    );
    let topic = stack.topic_contents().await;
    assert_eq!(topic.records_of(last["id"].as_str().unwrap()).len(), 10);
    assert_eq!((topic.runs().len(), topic.written), (1, 10));
}
