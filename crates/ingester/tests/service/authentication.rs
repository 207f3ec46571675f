//! Authentication of the API.

use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use testkit::randomuser::{Options, RandomUserApi};

use crate::ingester_process::Ingester;
use crate::ingester_service::{IngesterService, TIMEOUT};
use crate::publisher_stack::PublisherStack;
use crate::stub_publisher::StubPublisher;

pub(crate) const TOKEN: &str = "a-token-of-ours";

/// Writes a token file that authorizes `token`.
pub(crate) fn tokens_file(folder: &Path, token: &str) -> String {
    let path = folder.join("tokens");
    let sha256: String = Sha256::digest(token)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    std::fs::write(&path, format!("client {sha256}\n")).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn api_requires_a_token_and_reloads_the_token_file() {
    let (api, stack) = (
        RandomUserApi::start(Options::default()).await.unwrap(),
        PublisherStack::shared().await,
    );
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens_file(folder.path(), TOKEN);
    let settings = [
        ("AUTH__TOKENS_PATH", tokens.as_str()),
        ("API__RELOAD_INTERVAL", "50ms"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let status = async |method: &str, path: &str, token: Option<&str>| {
        let method = method.parse().unwrap();
        let mut request = service.client.request(method, format!("{}{path}", service.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    };
    let run = "/v1/runs/00000000-0000-0000-0000-000000000000";
    let events = format!("{run}/events");
    for (method, path, known) in [
        ("GET", "/v1/runs", 200),
        ("GET", "/v1/schedule", 200),
        ("GET", run, 404),
        ("GET", &events, 404),
        ("DELETE", run, 404),
        ("POST", "/v1/runs", 202),
    ] {
        let anonymous = status(method, path, None).await;
        assert_eq!(anonymous.status(), 401, "{method} {path}");
        assert_eq!(anonymous.headers()["www-authenticate"], "Bearer");
        assert_eq!(anonymous.headers()["content-type"], "application/problem+json");
        assert_eq!(
            status(method, path, Some("wrong")).await.status(),
            403,
            "{method} {path}"
        );
        assert_eq!(
            status(method, path, Some(TOKEN)).await.status(),
            known,
            "{method} {path}"
        );
    }
    for open in ["/", "/openapi.json"] {
        assert_eq!(status("GET", open, None).await.status(), 200, "{open} is public");
    }
    let until = Instant::now() + TIMEOUT;
    while api.requests().len() < 2 {
        assert!(Instant::now() < until, "{}", service.ingester.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    tokens_file(folder.path(), "the-next-one");
    let until = Instant::now() + TIMEOUT;
    while status("GET", "/v1/runs", Some("the-next-one")).await.status() != 200 {
        assert!(Instant::now() < until, "{}", service.ingester.log());
    }
    assert_eq!(status("GET", "/v1/runs", Some(TOKEN)).await.status(), 403);
    assert_eq!(
        api.requests().len(),
        2,
        "one run of two pages: unauthorized requests started none"
    );
    let log = service.ingester.log();
    assert!(!log.contains(TOKEN) && !log.contains("the-next-one"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_of_the_environment_gets_no_token() {
    let api = RandomUserApi::start(Options::default()).await.unwrap();
    let proxy = StubPublisher::start().await;
    let settings = [
        ("PUBLISHER__TOKEN", "s3cret"),
        ("RUN__TIMEOUT", "3s"),
        ("PUBLISHER__BACKOFF__MAX", "100ms"),
    ];
    let (url, command) = (proxy.url(), ["once", "--users", "5"]);
    let variables = ["HTTP_PROXY", "http_proxy", "ALL_PROXY"].map(|name| (name, url.as_str()));
    let ingester = Ingester::start_with_variables(
        &command,
        &api.url(),
        "http://publisher.invalid",
        &settings,
        &variables,
    );
    assert_eq!(ingester.exit_code().await, Some(1), "{}", ingester.log());
    assert_eq!(ingester.summary()["fetched"], 5);
    assert!(proxy.requests().is_empty(), "{:?}", proxy.requests());
}
