//! Comparison of an ended run with the ledger of a streamer, which a stub replaces. The demo runs the real chain.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::ingester_process::{exit_code, read_state, run_summary, start_ingester};
use crate::support::ingester_service::{IngesterService, path};
use crate::support::offline_api::start_api;
use crate::support::serve;
use crate::support::stub_publisher::StubPublisher;

/// The streamer's ledger: the ranges of each run's rows. `None` is a 503.
type Stored = Arc<Mutex<Option<Value>>>;

/// Starts a streamer. Returns its URL.
async fn streamer(stored: &Stored) -> String {
    let router = Router::new()
        .route("/v1/runs/{id}", get(ledger))
        .with_state(Arc::clone(stored));
    format!("http://{}", serve(router).await)
}

async fn ledger(State(stored): State<Stored>, Path(run): Path<String>) -> Response {
    let Some(stored) = stored.lock().unwrap().clone() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let latency = json!({"count": 10, "p50_ms": 12.5, "p99_ms": 40.0});
    let ranges = json!({
        "run_id": run, "rows": 0, "dead_letters": 0, "lost_table": 0, "stored": stored, "dead_lettered": [], "lost": [],
        "end_to_end": latency
    });
    axum::Json(ranges).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn single_run_reports_the_verdict_of_the_ledger() {
    let (api, publisher) = (start_api().await, StubPublisher::start().await);
    let before = Timestamp::now();
    for (stored, exit, state) in [
        (json!([[0, 4], [5, 9]]), 0, "conserved"),
        (json!([[0, 10]]), 1, "violated"),
        (json!([[0, 8]]), 0, "pending"),
    ] {
        let streamer = streamer(&Arc::new(Mutex::new(Some(stored)))).await;
        let settings = [
            ("pipeline.streamer_url", streamer.as_str()),
            (
                "pipeline.verdict_timeout",
                if state == "pending" { "1s" } else { "60s" },
            ),
        ];
        let command = ["once", "--users", "10"];
        let ingester = start_ingester(&command, &api.url(), &publisher.url(), &settings);
        assert_eq!(exit_code(&ingester).await, Some(exit), "{}", ingester.log());
        let summary = run_summary(&ingester);
        assert_eq!(
            (&summary["outcome"], &summary["verdict"]["state"]),
            (&"complete".into(), &state.into()),
            "{summary}"
        );
        assert_eq!(summary["verdict"]["ledger"]["end_to_end"]["p50_ms"], 12.5);
    }
    let command = ["once", "--users", "10"];
    let ingester = start_ingester(&command, &api.url(), &publisher.url(), &[]);
    assert_eq!(exit_code(&ingester).await, Some(0));
    assert_eq!(run_summary(&ingester)["verdict"]["state"], "unknown");
    let times: Vec<_> = publisher
        .requests()
        .iter()
        .map(|request| request.fetched_at_us)
        .collect();
    let range = before.as_microsecond()..=Timestamp::now().as_microsecond();
    assert!(
        times.len() >= 4 && times.iter().all(|at| range.contains(at)),
        "{times:?} {range:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn service_keeps_the_final_verdict_of_a_run() {
    let (api, publisher) = (start_api().await, StubPublisher::start().await);
    let stored = Stored::default();
    let streamer = streamer(&stored).await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [
        ("state.path", state.as_str()),
        ("pipeline.streamer_url", streamer.as_str()),
    ];
    let service = IngesterService::start(&api.url(), &publisher.url(), &settings).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    assert_eq!(run["verdict"], Value::Null, "it has not ended");
    let run = service
        .wait_for(&path(&run), |run| {
            let reason = run["verdict"]["reason"].as_str().unwrap_or_default();
            run["state"] == "complete" && reason.contains("503")
        })
        .await;
    assert_eq!(run["verdict"]["state"], "pending");
    *stored.lock().unwrap() = Some(json!([[0, 9]]));
    let run = service
        .wait_for(&path(&run), |run| run["verdict"]["state"] == "conserved")
        .await;
    assert_eq!(
        service.get("/v1/runs").await["runs"][0]["verdict"],
        run["verdict"]
    );
    let id = run["id"].as_str().unwrap();
    for arguments in [&["runs", "show", id][..], &["runs", "list", "--json"]] {
        // Without the setting: the verdict is stored.
        let shown: Value = serde_json::from_str(&read_state(arguments, &state)).unwrap();
        assert_eq!(shown["verdict"], run["verdict"], "{arguments:?}");
    }
}
