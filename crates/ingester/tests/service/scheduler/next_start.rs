//! The announced next start, and the actual start.

use ingester::config::IngesterSettings;
use ingester::run::run_stats::RunCounts;
use ingester::run::{DeliverySpec, RunSpec, RunState, Trigger};
use ingester::store::Store;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};
use serde_json::Value;

use crate::support::ingester_service::{IngesterService, instant};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

async fn next_start(service: &IngesterService) -> Timestamp {
    let plan = service
        .wait_for("/v1/schedule", |plan| plan["next_start"].is_string())
        .await;
    instant(&plan["next_start"])
}

#[tokio::test(flavor = "multi_thread")]
async fn next_start_uses_the_time_zone_and_the_jitter() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let now = Timestamp::now();
    let in_year = |year| {
        let noon = civil::date(year, 7, 1).at(12, 30, 0, 0);
        noon.to_zoned(zone.clone()).unwrap().timestamp()
    };
    let this_year = now.to_zoned(TimeZone::UTC).year();
    let years = [in_year(this_year), in_year(this_year + 1)];
    let expected = years.into_iter().find(|start| *start > now).unwrap();
    assert!(expected.to_string().ends_with("-07-01T10:30:00Z"), "{expected}");
    let settings = [
        ("schedule.cron", "30 12 1 7 *"),
        ("schedule.time_zone", "Europe/Berlin"),
    ];
    let punctual = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    assert_eq!(next_start(&punctual).await, expected);
    let settings = [&settings[..], &[("schedule.jitter", "1h")]].concat();
    let late = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let by = next_start(&late).await.duration_since(expected);
    assert!(
        SignedDuration::ZERO < by && by < SignedDuration::from_hours(1),
        "{by}"
    );
    assert_eq!(next_start(&late).await.duration_since(expected), by);
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_step_of_days_keeps_starts_and_bounds_retries() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    // A start of the schedule below, so that a retry after a second precedes the next start.
    let ahead = Timestamp::from_second((Timestamp::now().as_second() / 6 + 43_200) * 6).unwrap();
    // State of a process whose clock was three days ahead: a start whose run failed.
    let store = Store::open(&path).unwrap();
    store.set_schedule_cursor(ahead).unwrap();
    let spec = RunSpec {
        trigger: Trigger::Schedule,
        scheduled: Some(ahead),
        seed: "ahead".parse().unwrap(),
        users: 5,
        page_size: 5,
        pages: None,
        retry: 0,
        requested_by: None,
    };
    let failed = store.insert_run(&spec, RunState::Queued, None, ahead).unwrap();
    store
        .start_run(failed, &DeliverySpec::of(&IngesterSettings::default()), ahead)
        .unwrap();
    store
        .finish_run(failed, RunState::Failed, Some("so"), &RunCounts::default(), ahead)
        .unwrap();
    drop(store);
    let state = path.display().to_string();
    let settings = [
        ("state.path", state.as_str()),
        ("schedule.cron", "*/6 * * * * *"),
        ("schedule.retry_delay", "1s"),
        ("run.users", "5"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let runs = service
        .wait_for("/v1/runs?trigger=schedule&state=complete", |runs| {
            !runs["runs"][0].is_null()
        })
        .await;
    assert!(instant(&runs["runs"][0]["scheduled"]) < ahead);
    let retries = service.get("/v1/runs?trigger=retry&limit=500").await;
    let retries = retries["runs"].as_array().unwrap();
    assert!(retries.len() <= 1, "{retries:?}");
    let latest = &service.get("/v1/runs").await["runs"][0];
    assert_ne!(
        latest["seed"], "ahead",
        "the later run is the newest, independent of its clock"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn run_starts_no_earlier_than_announced() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let settings = [
        ("schedule.cron", "*/3 * * * * *"),
        ("schedule.jitter", "2s"),
        ("run.users", "5"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let announced = next_start(&service).await;
    let due = |run: &Value| instant(&run["scheduled"]);
    let jitter = SignedDuration::from_secs(2);
    let is_it = |run: &&Value| due(run) <= announced && announced < due(run) + jitter;
    let find = |runs: &Value| {
        let runs = runs["runs"].as_array().unwrap();
        runs.iter().find(is_it).cloned()
    };
    let runs = service
        .wait_for("/v1/runs?state=complete&trigger=schedule&limit=500", |runs| {
            find(runs).is_some()
        })
        .await;
    let run = find(&runs).unwrap();
    assert!(instant(&run["started"]) >= announced, "{announced}: {run}");
    assert_eq!(due(&run).as_second() % 3, 0, "{run}");
    assert_ne!(announced, due(&run), "the jitter is never exactly zero");
}
