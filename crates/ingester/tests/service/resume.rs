//! Runs resumed after a stop or kill, and the commands that show them.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::randomuser::{self, Fault, Options, RandomUserApi, RateLimit, RateLimitReply, ServedRequest};

use crate::ingester_process::Ingester;
use crate::ingester_service::{IngesterService, TIMEOUT, instant, path};
use crate::publisher_stack::PublisherStack;

async fn api() -> RandomUserApi {
    RandomUserApi::start(Options::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_service_leaves_its_run_to_the_next() {
    let (api, stack) = (api().await, PublisherStack::shared().await);
    // The second page is late, so that the run stays active. Requests are sequential, or it may be the first page.
    api.inject(Fault::Hang(Some(Duration::ZERO)), 1);
    api.inject(Fault::Hang(Some(Duration::from_millis(20_000))), 1);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [
        ("STATE__PATH", state.as_str()),
        ("RUN__USERS", "200"),
        ("STATE__OUTBOX_PAGES", "3"),
        ("SOURCE__MAX_IN_FLIGHT", "1"),
    ];
    let first = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let (_, run) = first.send(Method::POST, "/v1/runs", Value::Null).await;
    first
        .wait_for(&path(&run), |run| run["counts"]["accepted"] == 5)
        .await;
    assert_eq!(
        first.ingester.child.terminate(TIMEOUT).await.unwrap().code(),
        Some(0)
    );
    let second = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let run = second
        .wait_for(&path(&run), |run| run["state"] == "complete")
        .await;
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
    let (api, stack) = (api().await, PublisherStack::shared().await);
    api.inject(Fault::ForbiddenPage, 1);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [("STATE__PATH", state.as_str()), ("SCHEDULE__RETRY_DELAY", "8s")];
    let first = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let body = json!({"users": 5, "seed": "once-more", "pages": "1..1"});
    let (_, run) = first.send(Method::POST, "/v1/runs", body).await;
    let failed = first.wait_for(&path(&run), |run| run["state"] == "failed").await;
    assert_eq!(first.ingester.child.kill().await.unwrap().code(), None);

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
        ("STATE__PATH", state.as_str()),
        ("SOURCE__PAGE_SIZE", "5"),
        ("SOURCE__RATE_LIMIT__USERS", "10"),
        ("SOURCE__RATE_LIMIT__WINDOW", "10s"),
    ];
    let once = || Ingester::start(&["once", "--users", "10"], &api.url(), &stack.url(), &settings);
    let first = once();
    assert_eq!(first.exit_code().await, Some(0));
    assert_eq!(first.summary()["rate_limited_seconds"], 0.0);
    let second = once();
    assert_eq!(second.exit_code().await, Some(0));
    assert!(
        second.summary()["rate_limited_seconds"].as_f64().unwrap() > 1.0,
        "{}",
        second.summary()
    );
    let served =
        |request: &ServedRequest| matches!(request.outcome, randomuser::ServedOutcome::Served { .. });
    assert!(
        api.requests().iter().all(served),
        "without stored usage the API would have refused a request"
    );
}
