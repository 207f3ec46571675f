//! Missed, caught-up, skipped and retried starts.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::Value;
use testkit::randomuser::Fault;

use crate::support::TIMEOUT;
use crate::support::ingester_process::{metric, start_ingester, wait_for_admin};
use crate::support::ingester_service::{IngesterService, instant};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

#[tokio::test(flavor = "multi_thread")]
async fn missed_starts_follow_the_catch_up_setting() {
    for (catch_up, caught_up) in [("none", 0), ("latest", 1), ("all", 3)] {
        after_absence(catch_up, caught_up).await;
    }
}

/// Number of missed starts.
const STARTS: usize = 50;

/// Starts the service after the missed starts and checks each of them.
async fn after_absence(catch_up: &str, caught_up: usize) {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let now = Timestamp::now();
    let store = ingester::store::Store::open(&path).unwrap();
    store
        .set_schedule_cursor(now - SignedDuration::from_hours(50))
        .unwrap();
    drop(store);
    // Hourly, at a minute far from now.
    let minute = (now.to_zoned(TimeZone::UTC).minute() + 30) % 60;
    let (state, cron) = (path.display().to_string(), format!("{minute} * * * *"));
    let settings = [
        ("state.path", state.as_str()),
        ("schedule.cron", &cron),
        ("schedule.catch_up", catch_up),
        ("schedule.max_catchup_runs", "3"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let all_done = |runs: &Value| {
        let runs = runs["runs"].as_array().unwrap();
        runs.len() == STARTS && runs.iter().all(|run| run["ended"].is_string())
    };
    let runs = service.wait_for("/v1/runs?limit=500", all_done).await;
    // Newest first, by scheduled start.
    let runs = runs["runs"].as_array().unwrap();
    let due = |run: &Value| instant(&run["scheduled"]);
    assert!(runs.windows(2).all(|two| due(&two[0]) > due(&two[1])), "{runs:?}");
    for run in &runs[..caught_up] {
        assert_eq!(
            (&run["trigger"], &run["state"]),
            (&"catch_up".into(), &"complete".into())
        );
        assert_eq!(stack.records_of(run["id"].as_str().unwrap()).await.len(), 10);
    }
    for run in &runs[caught_up..] {
        let reported = (&run["trigger"], &run["state"], &run["reason"], &run["started"]);
        let missed = (
            &"schedule".into(),
            &"missed".into(),
            &"missed: the scheduler was not running".into(),
            &Value::Null,
        );
        assert_eq!(reported, missed);
    }
    let line = format!("ingester_starts_missed_total {}\n", STARTS - caught_up);
    assert!(service.ingester.get("/metrics").await.unwrap().1.contains(&line));
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_schedule_misses_no_start() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let state = path.display().to_string();
    let store = ingester::store::Store::open(&path).unwrap();
    let long_ago = Timestamp::now() - SignedDuration::from_hours(50);
    store.set_schedule_cursor(long_ago).unwrap();
    drop(store);
    let disabled = [("state.path", state.as_str())];
    let mut service = IngesterService::start(&api.url(), &stack.url(), &disabled).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    service.wait_for_state(&run, "complete").await;
    let (_, schedule) = service.send(Method::GET, "/v1/schedule", Value::Null).await;
    assert_eq!(schedule["schedule"]["enabled"], false, "{schedule}");
    assert_eq!(schedule["next_starts"], serde_json::json!([]));
    service.ingester.terminate(TIMEOUT).await.unwrap();

    // Enabled again. A start that was missed would be caught up at once.
    let yearly = [("state.path", state.as_str()), ("schedule.cron", "0 0 29 2 *")];
    let service = IngesterService::start(&api.url(), &stack.url(), &yearly).await;
    let scheduled = |plan: &Value| {
        plan["next_starts"]
            .as_array()
            .is_some_and(|starts| !starts.is_empty())
    };
    service.wait_for("/v1/schedule", scheduled).await;
    let (_, runs) = service.send(Method::GET, "/v1/runs", Value::Null).await;
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "{runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_start_is_skipped_and_stored() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    api.inject(Fault::Hang(Some(Duration::from_secs(3))), 1);
    let each_second = [("schedule.cron", "* * * * * *")];
    let service = IngesterService::start(&api.url(), &stack.url(), &each_second).await;
    let skipped = service
        .wait_for("/v1/runs?state=skipped&limit=500", |runs| {
            !runs["runs"][0].is_null()
        })
        .await;
    for run in skipped["runs"].as_array().unwrap() {
        assert_eq!(
            (&run["trigger"], &run["reason"], &run["started"]),
            (
                &"schedule".into(),
                &"skipped: another run was active".into(),
                &Value::Null
            )
        );
        assert!(
            run["scheduled"].is_string() && run["counts"]["requested"] == 0,
            "{run}"
        );
    }
    wait_for_admin(&service.ingester, "/metrics", |_, body| {
        metric(body, "ingester_starts_skipped_total") > 0
    })
    .await;
    service
        .wait_for("/v1/runs?state=complete", |runs| {
            runs["runs"][0]["trigger"] == "schedule"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_run_is_retried_after_the_delay() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    api.inject(Fault::ForbiddenPage, 1);
    let settings = [("run.users", "5"), ("schedule.retry_delay", "200ms")];
    let ingester = start_ingester(&["run"], &api.url(), &stack.url(), &settings);
    let metrics = wait_for_admin(&ingester, "/metrics", |_, body| {
        body.contains("runs_total{outcome=\"complete\"} 1")
    });
    assert!(
        metrics
            .await
            .contains("ingester_runs_total{outcome=\"failed\"} 1")
    );
    assert_eq!(
        ingester
            .get("/metrics")
            .await
            .unwrap()
            .1
            .matches("ingester_users_accepted_total 5\n")
            .count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_run_is_retried_up_to_the_limit() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    api.inject(Fault::ForbiddenPage, 10);
    let settings = [
        ("run.users", "5"),
        ("schedule.retries", "2"),
        ("schedule.retry_delay", "300ms"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    service.send(Method::POST, "/v1/runs", Value::Null).await;
    let all_failed = |runs: &Value| {
        let runs = runs["runs"].as_array().unwrap();
        runs.len() >= 3 && runs.iter().all(|run| run["state"] == "failed")
    };
    service.wait_for("/v1/runs", all_failed).await;
    // A further retry would be the next start; the schedule has none.
    service
        .wait_for("/v1/schedule", |plan| {
            plan["running"].is_null() && plan["next_start"].is_null()
        })
        .await;
    let runs = service.get("/v1/runs").await;
    let runs: Vec<_> = runs["runs"].as_array().unwrap().iter().rev().collect();
    let reported: Vec<_> = runs.iter().map(|run| (&run["trigger"], &run["retry"])).collect();
    let (manual, retry) = (&"manual".into(), &"retry".into());
    assert_eq!(
        reported,
        [(manual, &0.into()), (retry, &1.into()), (retry, &2.into())]
    );
    for two in runs.windows(2) {
        let waited = instant(&two[1]["started"]).duration_since(instant(&two[0]["ended"]));
        assert!(waited.as_millis() >= 300, "{waited}");
        assert_eq!(two[0]["seed"], two[1]["seed"]);
    }
    assert_eq!(api.requests().len(), 3);
}
