//! Tests of the HTTP API: its routes, problems, events, roles and page.

use std::io::Write as _;

use axum::body::Body;
use futures::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::*;
use crate::config::IngesterSettings;
use crate::metrics::IngesterMetrics;
use crate::run::active_run::ActiveRun;
use crate::scheduler::run_queue::MAX_UNFINISHED_RUNS;
use crate::store::Store;

fn queue() -> RunQueue {
    let settings = IngesterSettings::default();
    RunQueue::new(Store::in_memory().unwrap(), ActiveRun::default(), settings)
}

fn status(queue: &RunQueue) -> IngesterStatus {
    let context = service::Context::new("ingester");
    IngesterStatus::new(queue.clone(), &IngesterMetrics::new(&context.metrics), &context)
}

fn pipeline(queue: &RunQueue) -> PipelineComposer {
    PipelineComposer::new(status(queue), queue.settings().pipeline.clone()).unwrap()
}

fn public_router(queue: &RunQueue) -> Router {
    let authenticator = Authenticator::load(&service::AuthSettings::default()).unwrap();
    router(queue.clone(), Arc::new(authenticator), pipeline(queue))
}

async fn send(
    queue: &RunQueue,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> (u16, Option<String>, Value) {
    let mut request = axum::http::Request::builder().method(method).uri(path);
    let body = match body {
        Some(body) => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    respond(queue, request.body(body).unwrap()).await
}

async fn respond(queue: &RunQueue, mut request: Request) -> (u16, Option<String>, Value) {
    let headers = request.headers_mut();
    headers
        .entry(header::HOST)
        .or_insert(header::HeaderValue::from_static("localhost"));
    let response = public_router(queue).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let location = response.headers().get(header::LOCATION);
    let location = location.map(|location| location.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (
        status,
        location,
        serde_json::from_slice(&body).unwrap_or_default(),
    )
}

#[tokio::test]
async fn requested_run_can_be_read_and_cancelled() {
    let queue = queue();
    let body = json!({"users": 12_000, "seed": "abc", "pages": "2..3"});
    let (status, location, run) = send(&queue, "POST", "/v1/runs", Some(body)).await;
    let location = location.unwrap();
    assert_eq!(
        (status, &run["state"], &run["pages"]),
        (202, &"queued".into(), &"2..3".into())
    );
    assert_eq!(run["counts"]["requested"], 7_000);
    assert_eq!(location, format!("/v1/runs/{}", run["id"].as_str().unwrap()));
    let (status, _, details) = send(&queue, "GET", &location, None).await;
    assert_eq!(
        (status, &details["trigger"], &details["rejected_records"]),
        (200, &"manual".into(), &json!([]))
    );
    assert_eq!(send(&queue, "DELETE", &location, None).await.0, 204);
    assert_eq!(send(&queue, "DELETE", &location, None).await.0, 409);
    assert_eq!(send(&queue, "GET", &location, None).await.2["state"], "cancelled");
}

#[tokio::test]
async fn request_beyond_the_queue_is_a_conflict() {
    let queue = queue();
    for _ in 0..MAX_UNFINISHED_RUNS {
        assert_eq!(send(&queue, "POST", "/v1/runs", None).await.0, 202);
    }
    let (status, _, problem) = send(&queue, "POST", "/v1/runs", None).await;
    assert_eq!((status, &problem["title"]), (409, &"Conflict".into()));
}

#[tokio::test]
async fn runs_are_paged_and_filtered_by_state_and_trigger() {
    let queue = queue();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let (_, _, run) = send(&queue, "POST", "/v1/runs", None).await;
        ids.push(run["id"].clone());
        let path = format!("/v1/runs/{}", run["id"].as_str().unwrap());
        send(&queue, "DELETE", &path, None).await;
    }
    ids.reverse();
    let (mut path, mut found) = (Some("/v1/runs?limit=2&state=cancelled".to_owned()), Vec::new());
    while let Some(page) = path {
        let (status, _, body) = send(&queue, "GET", &page, None).await;
        assert_eq!(status, 200, "{body}");
        found.extend(
            body["runs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|run| run["id"].clone()),
        );
        path = body["next"].as_str().map(str::to_owned);
    }
    assert_eq!(found, ids);
    let (_, _, none) = send(&queue, "GET", "/v1/runs?trigger=schedule", None).await;
    assert_eq!(none, json!({"runs": [], "next": null}));
}

#[tokio::test]
async fn second_or_forced_cancel_drops_what_waits() {
    let active = ActiveRun::default();
    let queue = RunQueue::new(
        Store::in_memory().unwrap(),
        active.clone(),
        IngesterSettings::default(),
    );
    let stop = tokio_util::sync::CancellationToken::new();
    let (_, location, run) = send(&queue, "POST", "/v1/runs", None).await;
    let (location, id) = (location.unwrap(), run["id"].as_str().unwrap().parse().unwrap());
    queue.dequeue(&stop).unwrap();
    let tokens = active.claim(id, &stop);
    assert_eq!(
        send(&queue, "DELETE", &format!("{location}?force=maybe"), None)
            .await
            .0,
        400
    );
    assert_eq!(
        send(&queue, "DELETE", &format!("{location}?force=false"), None)
            .await
            .0,
        202
    );
    assert_eq!(
        send(&queue, "GET", &location, None).await.2["state"],
        "cancelling"
    );
    assert!(tokens.requested.is_cancelled() && !tokens.drop.is_cancelled());
    assert_eq!(
        send(&queue, "DELETE", &format!("{location}?force=true"), None)
            .await
            .0,
        202
    );
    assert!(tokens.drop.is_cancelled());
}

#[tokio::test]
async fn invalid_requests_return_a_problem() {
    let queue = queue();
    for (method, path, body, status) in [
        ("GET", "/v1/runs?state=done", None, 400),
        ("GET", "/v1/runs?limit=0", None, 400),
        ("GET", "/v1/runs?colour=red", None, 400),
        ("GET", "/v1/runs?before=x", None, 400),
        ("GET", "/v1/runs/x", None, 404),
        ("GET", "/v1/runs/%FF", None, 404),
        ("DELETE", "/v1/runs/%ff", None, 404),
        ("GET", "/v1/runs/%C3%28/events", None, 404),
        ("GET", "/v1/runs?limit=%FF", None, 400),
        (
            "DELETE",
            "/v1/runs/00000000-0000-0000-0000-000000000000",
            None,
            404,
        ),
        (
            "GET",
            "/v1/runs/00000000-0000-0000-0000-000000000000/events",
            None,
            404,
        ),
        ("GET", "/v2/runs", None, 404),
        ("PUT", "/v1/runs", None, 405),
        ("POST", "/v1/runs", Some(json!({"users": 0})), 400),
        ("POST", "/v1/runs", Some(json!({"users": 1_000_000})), 400),
        ("POST", "/v1/runs", Some(json!({"users": u64::MAX})), 400),
        ("POST", "/v1/runs", Some(json!({"user": 1})), 422),
        ("POST", "/v1/runs", Some(json!({"seed": "a b"})), 422),
        ("POST", "/v1/runs", Some(json!({"pages": "2..3"})), 400),
    ] {
        let (actual, _, problem) = send(&queue, method, path, body).await;
        assert_eq!(actual, status, "{method} {path}: {problem}");
        assert_eq!(problem["status"], status, "{method} {path}: {problem}");
        let kind = problem["type"].as_str().unwrap_or_default();
        let name = kind.strip_prefix("urn:affluent:problem:").unwrap_or_default();
        assert!(
            !name.is_empty() && name != "internal-error",
            "{method} {path}: {problem}"
        );
    }
    assert!(queue.store().unfinished_runs().unwrap().is_empty());
}

#[tokio::test]
async fn schedule_can_be_paused_and_resumed() {
    let queue = queue();
    queue.set_next_starts(vec![jiff::Timestamp::UNIX_EPOCH]);
    let (status, _, plan) = send(&queue, "GET", "/v1/schedule", None).await;
    assert_eq!((status, &plan["paused"]), (200, &Value::Null));
    assert_eq!(plan["next_starts"], json!(["1970-01-01T00:00:00Z"]));
    let (status, _, plan) = send(&queue, "POST", "/v1/schedule/pause", None).await;
    assert_eq!((status, &plan["paused"]["by"]), (200, &"anonymous".into()));
    assert_eq!(
        (&plan["next_start"], &plan["next_starts"]),
        (&Value::Null, &json!([]))
    );
    assert!(plan["paused"]["since"].is_string());
    let (status, _, plan) = send(&queue, "POST", "/v1/schedule/resume", None).await;
    assert_eq!((status, &plan["paused"]), (200, &Value::Null));
}

#[tokio::test]
async fn run_names_who_started_and_who_cancelled_it() {
    let queue = queue();
    let (_, location, run) = send(&queue, "POST", "/v1/runs", None).await;
    assert_eq!(
        (&run["requested_by"], &run["cancelled_by"]),
        (&"anonymous".into(), &Value::Null)
    );
    send(&queue, "DELETE", location.as_deref().unwrap(), None).await;
    let run = send(&queue, "GET", location.as_deref().unwrap(), None).await.2;
    assert_eq!(run["cancelled_by"], "anonymous");
}

#[tokio::test]
async fn ended_run_can_be_retried() {
    let queue = queue();
    let (_, location, run) = send(&queue, "POST", "/v1/runs", Some(json!({"seed": "abc"}))).await;
    let (location, id) = (location.unwrap(), run["id"].as_str().unwrap().parse().unwrap());
    let retry = format!("{location}/retry");
    let (status, _, problem) = send(&queue, "POST", &retry, None).await;
    assert_eq!(
        (status, &problem["detail"]),
        (409, &"the run has not ended".into())
    );
    let counts = crate::run::run_stats::RunCounts::default();
    let (state, now) = (crate::run::RunState::Failed, jiff::Timestamp::now());
    queue
        .store()
        .finish_run(id, state, Some("why"), &counts, now)
        .unwrap();
    let (status, _, retried) = send(&queue, "POST", &retry, None).await;
    assert_eq!(
        (status, &retried["trigger"], &retried["seed"]),
        (202, &"retry".into(), &"abc".into())
    );
    assert_eq!(retried["requested_by"], "anonymous");
}

#[tokio::test]
async fn each_json_response_is_a_line() {
    let queue = queue();
    for path in [
        "/v1/runs",
        "/v1/schedule",
        "/v1/pipeline",
        "/openapi.json",
        "/v1/runs/x",
        "/nothing",
    ] {
        let request = axum::http::Request::get(path).header(header::HOST, "localhost");
        let response = public_router(&queue)
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let content_type = response.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(
            content_type.starts_with("application/") && content_type.ends_with("json"),
            "{path}"
        );
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert!(body.ends_with(b"}\n"), "{path}");
    }
}

#[tokio::test]
async fn schedule_has_the_expected_duration() {
    let mut settings = IngesterSettings::default();
    settings.run.users = 50_000;
    let queue = RunQueue::new(Store::in_memory().unwrap(), ActiveRun::default(), settings);
    let (_, _, plan) = send(&queue, "GET", "/v1/schedule", None).await;
    assert_eq!(plan["expected_seconds"], 600);
}

#[tokio::test]
async fn cross_site_requests_are_rejected() {
    let queue = queue();
    let ask = |site| {
        let request = axum::http::Request::post("/v1/runs").header("sec-fetch-site", site);
        respond(&queue, request.body(Body::empty()).unwrap())
    };
    assert_eq!(ask("cross-site").await.0, 403);
    assert_eq!(ask("same-site").await.0, 403);
    assert_eq!(ask("same-origin").await.0, 202);
}

#[tokio::test]
async fn page_of_another_site_reads_and_starts_nothing() {
    let queue = queue();
    let by_name =
        |method: &'static str, path: &'static str, host: &'static str, origin: Option<&'static str>| {
            let mut request = axum::http::Request::builder().method(method).uri(path);
            request = request.header(header::HOST, host);
            if let Some(origin) = origin {
                request = request.header(header::ORIGIN, origin);
            }
            respond(&queue, request.body(Body::empty()).unwrap())
        };
    for path in [
        "/",
        "/openapi.json",
        "/v1/runs",
        "/v1/schedule",
        "/v1/pipeline",
        "/v1/nothing",
    ] {
        assert_eq!(by_name("GET", path, "evil.example", None).await.0, 403, "{path}");
    }
    let (status, _, problem) = by_name("POST", "/v1/runs", "evil.example", Some("http://evil.example")).await;
    assert_eq!(
        (status, &problem["detail"]),
        (
            403,
            &"evil.example is no address, not localhost and not in api.host_names".into()
        )
    );
    let foreign = by_name("POST", "/v1/runs", "localhost:8081", Some("http://evil.example")).await;
    assert_eq!(foreign.0, 403);
    assert!(queue.store().unfinished_runs().unwrap().is_empty());
    let own = by_name(
        "POST",
        "/v1/runs",
        "localhost:8081",
        Some("http://localhost:8081"),
    )
    .await;
    assert_eq!(own.0, 202);
}

#[tokio::test]
async fn events_report_each_change_and_end_with_the_run() {
    let queue = queue();
    let spec = queue.spec(Trigger::Manual, &RunRequest::default());
    let run = queue.enqueue(&spec).unwrap();
    let request =
        axum::http::Request::get(format!("/v1/runs/{run}/events")).header(header::HOST, "localhost");
    let response = public_router(&queue)
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let mut events = response.into_body().into_data_stream();
    let mut next = async || {
        events
            .next()
            .await
            .map(|event| String::from_utf8(event.unwrap().to_vec()).unwrap())
    };
    let first = next().await.unwrap();
    assert!(
        first.starts_with("event: run\ndata: {") && first.contains("\"queued\""),
        "{first}"
    );
    queue.cancel(run, false, "me").unwrap();
    assert!(next().await.unwrap().contains("\"cancelled\""));
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn openapi_lists_routes_states_and_every_field_of_a_run() {
    let queue = queue();
    let (status, _, description) = send(&queue, "GET", "/openapi.json", None).await;
    assert_eq!(status, 200);
    let (_, location, run) = send(&queue, "POST", "/v1/runs", None).await;
    let id = location.unwrap().rsplit('/').next().unwrap().to_owned();
    let methods = ["get", "post", "put", "delete"];
    for (path, item) in description["paths"].as_object().unwrap() {
        let path = path.replace("{id}", &id);
        for method in methods {
            let status = match (method, path.as_str()) {
                ("get", path) if path.ends_with("/events") => 200,
                _ => send(&queue, &method.to_uppercase(), &path, None).await.0,
            };
            assert_eq!(item.get(method).is_some(), status != 405, "{method} {path}");
            assert_ne!(status, 404, "{method} {path}");
        }
    }
    let schemas = &description["components"]["schemas"];
    let names = |names: Vec<&str>| json!(names);
    let states = crate::run::RunState::ALL.iter().map(|state| state.name());
    assert_eq!(schemas["State"]["enum"], names(states.collect()));
    assert_eq!(
        schemas["Trigger"]["enum"],
        names(Trigger::ALL.iter().map(|trigger| trigger.name()).collect())
    );
    let required_fields = |schema: &Value| -> std::collections::BTreeSet<String> {
        let required = schema["required"].as_array().unwrap();
        required
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let keys = |value: &Value| -> std::collections::BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(required_fields(&schemas["Run"]), keys(&run));
    assert_eq!(
        required_fields(&schemas["Run"]["properties"]["counts"]),
        keys(&run["counts"])
    );
}

#[tokio::test]
async fn page_is_self_contained() {
    let request = axum::http::Request::get("/").header(header::HOST, "localhost");
    let request = request.body(Body::empty()).unwrap();
    let response = public_router(&queue()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(
        response.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
    let page = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let page = std::str::from_utf8(&page).unwrap();
    assert!(
        !page.contains("src=")
            && !page.contains("http:")
            && !page.contains("https:")
            && !page.contains("@import")
    );
    for word in [
        "lang=\"en\"",
        "name=\"viewport\"",
        "aria-live",
        "prefers-color-scheme",
        ":focus-visible",
    ] {
        assert!(page.contains(word), "{word}");
    }
}

#[tokio::test]
async fn token_with_the_role_read_changes_nothing() {
    let queue = queue();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for (name, roles) in [("reader", "read"), ("operator", "read,write"), ("admin", "")] {
        let digest = Sha256::digest(name);
        let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(file, "{name} {sha256} {roles}").unwrap();
    }
    let settings = serde_json::from_value(json!({"tokens_path": file.path()})).unwrap();
    let authenticator = Arc::new(Authenticator::load(&settings).unwrap());
    let run = "/v1/runs/00000000-0000-0000-0000-000000000000";
    let (events, retry) = (format!("{run}/events"), format!("{run}/retry"));
    for (method, path, found) in [
        ("GET", "/v1/runs", 200),
        ("GET", run, 404),
        ("GET", &events, 404),
        ("GET", "/v1/schedule", 200),
        ("POST", "/v1/runs", 202),
        ("POST", &retry, 404),
        ("DELETE", run, 404),
        ("POST", "/v1/schedule/pause", 200),
        ("POST", "/v1/schedule/resume", 200),
    ] {
        for token in ["reader", "operator", "admin"] {
            let request = axum::http::Request::builder()
                .method(method)
                .uri(path)
                .header(header::HOST, "localhost")
                .header(header::AUTHORIZATION, format!("Bearer {token}"));
            let router = router(queue.clone(), Arc::clone(&authenticator), pipeline(&queue));
            let response = router
                .oneshot(request.body(Body::empty()).unwrap())
                .await
                .unwrap();
            let is_refused = token == "reader" && method != "GET";
            let expected = if is_refused { 403 } else { found };
            assert_eq!(response.status().as_u16(), expected, "{token}: {method} {path}");
        }
    }
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let authenticator = Authenticator::load(&service::AuthSettings::default()).unwrap();
    let limits = ConnectionLimits {
        header_timeout: Duration::from_secs(1),
        ..LIMITS
    };
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let queue = queue();
    let status = status(&queue);
    let server = ApiServer::bind_with(limits, address, queue, Arc::new(authenticator), status)
        .await
        .unwrap();
    let address = server.server.address().unwrap();
    let serving = tokio::spawn(server.serve());
    let mut silent = Vec::new();
    for _ in 0..limits.max_connections * 2 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    for mut connection in silent {
        let mut received = Vec::new();
        let closed = connection.read_to_end(&mut received);
        let closed = timeout(Duration::from_secs(120), closed).await;
        // It may be reset.
        let _ = closed.expect("a silent connection is closed");
    }
    serving.abort();
}
