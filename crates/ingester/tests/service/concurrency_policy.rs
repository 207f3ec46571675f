//! `schedule.concurrency_policy = queue`: one run waits for the end of the one under way, and no more than one.

use std::time::Duration;

use jiff::SignedDuration;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::randomuser::{Fault, Options, RandomUserApi};

use crate::ingester_service::{IngesterService, instant, path};
use crate::publisher_stack::PublisherStack;

async fn api() -> RandomUserApi {
    RandomUserApi::start(Options::default()).await.unwrap()
}

/// The runs that the schedule had, the first one first.
fn scheduled(runs: &Value) -> Vec<Value> {
    let mut runs = runs["runs"].as_array().unwrap().clone();
    runs.retain(|run| run["scheduled"].is_string());
    runs.sort_by_key(|run| instant(&run["scheduled"]));
    runs
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_start_that_falls_into_a_run_waits_for_its_end_and_those_before_it_are_skipped() {
    let (api, stack) = (api().await, PublisherStack::shared().await);
    // Two starts fall into the first run, which ends well before a third one.
    api.inject(Fault::Hang(Some(Duration::from_secs(9))), 1);
    let settings = [
        ("SCHEDULE__CRON", "*/4 * * * * *"),
        ("SCHEDULE__CONCURRENCY_POLICY", "queue"),
        ("RUN__USERS", "5"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let every = SignedDuration::from_secs(4);
    let first = service
        .until("/v1/runs?state=running", |runs| !runs["runs"][0].is_null())
        .await["runs"][0]
        .clone();
    let told = |plan: &Value| plan["running"] == first["id"] && plan["next_start"].is_string();
    let due = instant(&first["scheduled"]);
    service
        .until("/v1/schedule", |plan| {
            told(plan) && instant(&plan["next_start"]) >= due + every
        })
        .await;
    let runs = service
        .until("/v1/runs?limit=500", |runs| {
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
            &"another run was under way".into(),
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
    let metrics = service.ingester.get("/metrics").await.1;
    assert!(metrics.contains("ingester_starts_skipped_total 1\n"), "{metrics}");
    for run in [first, queued] {
        assert_eq!(stack.records_of(run["id"].as_str().unwrap()).await.len(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_asked_for_waits_for_the_one_under_way_can_be_withdrawn_and_leaves_no_room_for_a_third() {
    let (api, stack) = (api().await, PublisherStack::start().await);
    api.inject(Fault::Hang(None), 1);
    let settings = [
        ("SCHEDULE__CONCURRENCY_POLICY", "queue"),
        ("SOURCE__MAX_IN_FLIGHT", "1"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let ask = async || service.send(Method::POST, "/v1/runs", Value::Null).await;
    let end = async |run: &Value| service.send(Method::DELETE, &path(run), Value::Null).await.0;
    let (_, first) = ask().await;
    service
        .until(&path(&first), |run| run["state"] == "running")
        .await;
    let (status, withdrawn) = ask().await;
    assert_eq!(
        (status, &withdrawn["state"]),
        (StatusCode::ACCEPTED, &"queued".into())
    );
    let (status, problem) = ask().await;
    assert_eq!(status, StatusCode::CONFLICT);
    let waiting = withdrawn["id"].as_str().unwrap();
    assert!(problem["detail"].as_str().unwrap().contains(waiting), "{problem}");
    assert_eq!(end(&withdrawn).await, StatusCode::NO_CONTENT);
    let (status, last) = ask().await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(end(&first).await, StatusCode::ACCEPTED);
    let last = service
        .until(&path(&last), |run| run["state"] == "complete")
        .await;

    // The whole history, entry by entry.
    let (mut page, mut runs) = (Some("/v1/runs?limit=1".to_owned()), Vec::new());
    while let Some(path) = page {
        let answer = service.get(&path).await;
        runs.extend(answer["runs"].as_array().unwrap().clone());
        page = answer["next"].as_str().map(str::to_owned);
    }
    let told: Vec<_> = runs
        .iter()
        .map(|run| json!([run["id"], run["state"], run["started"].is_string()]))
        .collect();
    let expected = [
        json!([last["id"], "complete", true]),
        json!([withdrawn["id"], "stopped", false]),
        json!([first["id"], "stopped", true]),
    ];
    assert_eq!(told, expected);
    assert_eq!(runs[1]["reason"], "withdrawn before it began");
    assert!(
        instant(&last["started"]) >= instant(&runs[2]["ended"]),
        "{runs:?}"
    );
    let topic = stack.topic_contents().await;
    assert_eq!(topic.records_of(last["id"].as_str().unwrap()).len(), 10);
    assert_eq!((topic.runs().len(), topic.written), (1, 10));
}
