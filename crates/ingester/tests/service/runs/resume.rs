//! Runs resumed after a stop or kill, and the commands that show them.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::randomuser::{self, Fault, Options, RandomUserApi, RateLimit, RateLimitReply, ServedRequest};

use crate::support::TIMEOUT;
use crate::support::ingester_process::{exit_code, run_summary, start_ingester};
use crate::support::ingester_service::{IngesterService, instant, path};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

#[tokio::test(flavor = "multi_thread")]
async fn stopped_service_leaves_its_run_to_the_next() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    // The second page is late, so that the run stays active. Requests are sequential, or it may be the first page.
    api.inject(Fault::Hang(Some(Duration::ZERO)), 1);
    api.inject(Fault::Hang(Some(Duration::from_millis(20_000))), 1);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [
        ("state.path", state.as_str()),
        ("run.users", "200"),
        ("state.outbox_pages", "3"),
        ("source.max_in_flight", "1"),
    ];
    let mut first = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let (_, run) = first.send(Method::POST, "/v1/runs", Value::Null).await;
    first
        .wait_for(&path(&run), |run| run["counts"]["accepted"] == 5)
        .await;
    assert_eq!(first.ingester.terminate(TIMEOUT).await.unwrap(), Some(0));
    let second = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let run = second.wait_for_state(&run, "complete").await;
    assert_eq!(
        (&run["resumed"], &run["counts"]["accepted"]),
        (&1.into(), &200.into())
    );
    // Pages in flight at the stop are requested again.
    assert!(
        (40..=42).contains(&api.requests().len()),
        "{}",
        api.requests().len()
    );
    let records = stack.records_of(run["id"].as_str().unwrap()).await;
    assert_eq!(records.len(), 200, "each under one sequence number");

    let ingester = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ingester"));
        let output = command
            .args(arguments)
            .env("INGESTER__STATE__PATH", &state)
            .env("INGESTER__PROCESS__ADMIN_LISTEN", "127.0.0.1:0")
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, listed, _) = ingester(&["runs", "list"]);
    assert!(
        code == Some(0) && listed.lines().count() == 2 && listed.contains(" complete "),
        "{listed}"
    );
    let (_, listed, _) = ingester(&["runs", "list", "--json", "--state", "complete"]);
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()["id"], run["id"]);
    let (_, shown, _) = ingester(&["runs", "show", run["id"].as_str().unwrap()]);
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), run);
    let (code, _, error) = ingester(&["once", "--users", "5"]);
    assert!(
        code == Some(78) && error.contains("in use by another ingester"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_retry_survives_kill_9_and_starts_when_due() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    api.inject(Fault::ForbiddenPage, 1);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [("state.path", state.as_str()), ("schedule.retry_delay", "8s")];
    let first = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let body = json!({"users": 5, "seed": "once-more", "pages": "1..1"});
    let (_, run) = first.send(Method::POST, "/v1/runs", body).await;
    let failed = first.wait_for_state(&run, "failed").await;
    assert_eq!(first.ingester.child().unwrap().kill().await.unwrap().code(), None);

    let second = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let due = instant(&failed["ended"]) + jiff::SignedDuration::from_secs(8);
    let schedule = second
        .wait_for("/v1/schedule", |plan| !plan["next_start"].is_null())
        .await;
    assert_eq!(instant(&schedule["next_start"]), due);
    let runs = second
        .wait_for("/v1/runs?trigger=retry&state=complete", |runs| {
            !runs["runs"][0].is_null()
        })
        .await;
    let retry = &runs["runs"][0];
    assert!(instant(&retry["started"]) >= due, "{retry}");
    for kept in ["seed", "users", "pages", "page_size"] {
        assert_eq!(retry[kept], failed[kept], "{kept}");
    }
    assert_eq!((&retry["retry"], &retry["resumed"]), (&1.into(), &0.into()));
    assert_eq!(stack.records_of(retry["id"].as_str().unwrap()).await.len(), 5);
    assert!(stack.records_of(run["id"].as_str().unwrap()).await.is_empty());
    assert_eq!(second.get("/v1/runs").await["runs"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_usage_survives_a_restart() {
    let window = Duration::from_secs(10);
    let options = Options {
        rate_limit: Some(RateLimit {
            users: 10,
            window,
            reply: RateLimitReply::TooManyRequests,
        }),
        ..Options::default()
    };
    let (api, stack) = (
        RandomUserApi::start(options).await.unwrap(),
        PublisherStack::shared().await,
    );
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [
        ("state.path", state.as_str()),
        ("source.page_size", "5"),
        ("source.rate_limit.users", "10"),
        ("source.rate_limit.window", "10s"),
    ];
    let once = || start_ingester(&["once", "--users", "10"], &api.url(), &stack.url(), &settings);
    let first = once();
    assert_eq!(exit_code(&first).await, Some(0));
    assert_eq!(run_summary(&first)["rate_limited_seconds"], 0.0);
    let second = once();
    assert_eq!(exit_code(&second).await, Some(0));
    assert!(
        run_summary(&second)["rate_limited_seconds"].as_f64().unwrap() > 1.0,
        "{}",
        run_summary(&second)
    );
    let served =
        |request: &ServedRequest| matches!(request.outcome, randomuser::ServedOutcome::Served { .. });
    assert!(
        api.requests().iter().all(served),
        "without stored usage the API would have refused a request"
    );
}
