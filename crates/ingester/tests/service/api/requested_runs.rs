//! Runs requested over the API: start latency, details, events and cancellation.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::randomuser::Fault;

use crate::support::TIMEOUT;
use crate::support::ingester_service::{IngesterService, path};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

#[tokio::test(flavor = "multi_thread")]
async fn requested_run_starts_within_100_ms() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let service = IngesterService::start(&api.url(), &stack.url(), &[("run.users", "5")]).await;
    let mut latencies = Vec::new();
    for known in 0..9 {
        idle(&service).await;
        assert_eq!(api.requests().len(), known);
        let requested = Instant::now();
        let (status, _) = service.send(Method::POST, "/v1/runs", Value::Null).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        while api.requests().len() == known {
            assert!(requested.elapsed() < TIMEOUT, "{}", service.ingester.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        latencies.push(requested.elapsed());
    }
    latencies.sort();
    // The median ignores delays of a busy machine and detects polling.
    assert!(latencies[4] < Duration::from_millis(100), "{latencies:?}");
}

/// Waits until no run is active or queued.
async fn idle(service: &IngesterService) {
    service
        .wait_for("/v1/runs?limit=1", |runs| {
            let last = &runs["runs"][0];
            last.is_null() || last["ended"].is_string()
        })
        .await;
    service
        .wait_for("/v1/schedule", |plan| plan["running"].is_null())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requested_run_uses_its_parameters_and_is_stored() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let service = IngesterService::start(&api.url(), &stack.url(), &[]).await;
    let body = json!({"users": 15, "seed": "manual-seed", "pages": "2..3"});
    let (status, run) = service.send(Method::POST, "/v1/runs", body).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let run = service.wait_for_state(&run, "complete").await;
    assert_eq!(
        (&run["trigger"], &run["counts"]["accepted"]),
        (&"manual".into(), &10.into())
    );
    assert_eq!(stack.records_of(run["id"].as_str().unwrap()).await.len(), 10);
    assert_eq!(
        service.get("/v1/runs?state=complete").await["runs"][0]["id"],
        run["id"]
    );
    idle(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn early_cancellation_reports_dequeued_or_stopping() {
    let (api, stack) = (start_api().await, PublisherStack::start().await);
    let service = IngesterService::start(&api.url(), &stack.url(), &[]).await;
    let mut dequeued = Vec::new();
    for attempt in 0..100 {
        idle(&service).await;
        let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
        tokio::time::sleep(Duration::from_micros(attempt * 50)).await;
        let (status, _) = service.send(Method::DELETE, &path(&run), Value::Null).await;
        let run = service
            .wait_for(&path(&run), |run| run["ended"].is_string())
            .await;
        match status {
            StatusCode::NO_CONTENT => {
                assert_eq!(
                    (&run["state"], &run["started"]),
                    (&"cancelled".into(), &Value::Null)
                );
                dequeued.push(run["id"].as_str().unwrap().to_owned());
            }
            StatusCode::ACCEPTED => assert!(run["started"].is_string(), "{run}"),
            other => assert_eq!((other, &run["state"]), (StatusCode::CONFLICT, &"complete".into())),
        }
    }
    idle(&service).await;
    let topic = stack.topic_contents().await;
    let written: Vec<_> = dequeued
        .iter()
        .filter(|run| topic.runs().contains(run.as_str()))
        .collect();
    assert!(written.is_empty(), "{written:?}");
    assert_eq!(service.ingester.get("/healthz").await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn active_run_streams_events_and_stops_on_request() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    // The second page is late, so that the run stays active. Requests are sequential, or it may be the first page.
    api.inject(Fault::Hang(Some(Duration::ZERO)), 1);
    api.inject(Fault::Hang(Some(Duration::from_millis(20_000))), 1);
    let one_by_one = [("run.users", "5000"), ("source.max_in_flight", "1")];
    let service = IngesterService::start(&api.url(), &stack.url(), &one_by_one).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    service
        .wait_for(&path(&run), |run| run["counts"]["accepted"] == 5)
        .await;
    let mut events = service
        .ingester
        .request(Method::GET, &format!("{}/events", path(&run)))
        .timeout(TIMEOUT)
        .send()
        .await
        .unwrap();
    assert_eq!(
        service.send(Method::DELETE, &path(&run), Value::Null).await.0,
        StatusCode::ACCEPTED
    );
    let mut received = String::new();
    while let Some(chunk) = tokio::time::timeout(TIMEOUT, events.chunk())
        .await
        .unwrap()
        .unwrap()
    {
        received.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(
        received.starts_with("event: run") && received.contains("\"state\":\"running\""),
        "{received}"
    );
    assert!(
        received
            .trim_end()
            .lines()
            .last()
            .unwrap()
            .contains("\"state\":\"cancelled\""),
        "{received}"
    );
    let run = service.get(&path(&run)).await;
    assert_eq!(
        (&run["counts"]["fetched"], &run["counts"]["accepted"]),
        (&5.into(), &5.into()),
        "it does not wait for the pending page"
    );
    assert_eq!(stack.records_of(run["id"].as_str().unwrap()).await.len(), 5);
    assert_eq!(
        service
            .send(Method::POST, "/v1/runs", json!({"users": 5}))
            .await
            .0,
        StatusCode::ACCEPTED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn event_stream_ends_with_the_run() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    // The second page is late, so that the run stays active. Requests are sequential, or it may be the first page.
    api.inject(Fault::Hang(Some(Duration::ZERO)), 1);
    api.inject(Fault::Hang(Some(Duration::from_secs(3))), 1);
    let service = IngesterService::start(&api.url(), &stack.url(), &[("source.max_in_flight", "1")]).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    let events = service
        .ingester
        .request(Method::GET, &format!("{}/events", path(&run)))
        .timeout(TIMEOUT);
    let received = tokio::time::timeout(TIMEOUT, events.send().await.unwrap().text())
        .await
        .unwrap()
        .unwrap();
    let data = received.lines().filter_map(|line| line.strip_prefix("data: "));
    let received: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
    assert!(
        received.len() >= 2 && received.windows(2).all(|two| two[0] != two[1]),
        "{received:?}"
    );
    let last = received.last().unwrap();
    assert_eq!(
        (&last["state"], &last["counts"]["accepted"]),
        (&"complete".into(), &10.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_control_the_running_service() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let service = IngesterService::start(&api.url(), &stack.url(), &[("schedule.cron", "0 0 29 2 *")]).await;
    let ingester = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ingester"))
            .args(arguments)
            .args(["--url", &service.ingester.api()])
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), json, text(output.stderr))
    };
    let (code, run, error) = ingester(&[
        "runs", "start", "--users", "15", "--seed", "abc", "--pages", "2..3",
    ]);
    assert_eq!(
        (code, &run["counts"]["requested"]),
        (Some(0), &10.into()),
        "{error}"
    );
    let id = run["id"].as_str().unwrap();
    service.wait_for_state(&run, "complete").await;
    let (code, _, error) = ingester(&["runs", "cancel", id]);
    assert_eq!(code, Some(1));
    assert!(error.contains("409: the run has ended"), "{error}");
    let (code, _, error) = ingester(&["runs", "retry", id]);
    assert_eq!(code, Some(1));
    assert!(error.contains("409: the run has delivered each page"), "{error}");

    api.inject(Fault::ForbiddenPage, 1);
    let (_, failing, _) = ingester(&["runs", "start"]);
    service.wait_for_state(&failing, "failed").await;
    let (code, retry, error) = ingester(&["runs", "retry", failing["id"].as_str().unwrap()]);
    assert_eq!((code, &retry["seed"]), (Some(0), &failing["seed"]), "{error}");

    let (code, schedule, _) = ingester(&["schedule", "pause"]);
    assert_eq!((code, &schedule["paused"]["by"]), (Some(0), &"anonymous".into()));
    let (_, schedule, _) = ingester(&["schedule", "show"]);
    assert!(
        schedule["next_start"].is_null() && schedule["paused"].is_object(),
        "{schedule}"
    );
    let (code, schedule, _) = ingester(&["schedule", "resume"]);
    assert_eq!((code, &schedule["paused"]), (Some(0), &Value::Null));
    service
        .wait_for("/v1/schedule", |plan| {
            plan["next_starts"].as_array().unwrap().len() == 5
        })
        .await;
}
