//! Requests of other sites, roles of tokens, and idle connections.

use std::io::Write as _;

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

#[tokio::test]
async fn cross_site_requests_are_rejected() {
    let queue = queue();
    let start_from = |site| {
        let request = axum::http::Request::post("/v1/runs").header("sec-fetch-site", site);
        respond(&queue, request.body(Body::empty()).unwrap())
    };
    assert_eq!(start_from("cross-site").await.0, 403);
    assert_eq!(start_from("same-site").await.0, 403);
    assert_eq!(start_from("same-origin").await.0, 202);
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
