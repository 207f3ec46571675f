//! Authentication of the API.

use std::time::{Duration, Instant};

use testkit::service::Service;

use crate::support::TIMEOUT;
use crate::support::ingester_process::{exit_code, ingester_options, run_summary};
use crate::support::ingester_service::IngesterService;
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;
use crate::support::stub_publisher::StubPublisher;
use crate::support::token_file::{TOKEN, tokens_file};

#[tokio::test(flavor = "multi_thread")]
async fn api_requires_a_token_and_reloads_the_token_file() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens_file(folder.path(), TOKEN);
    let settings = [
        ("auth.tokens_path", tokens.as_str()),
        ("api.reload_interval", "50ms"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let status = async |method: &str, path: &str, token: Option<&str>| {
        let method = method.parse().unwrap();
        let mut request = service.ingester.request(method, path);
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
    let api = start_api().await;
    let proxy = StubPublisher::start().await;
    let settings = [
        ("publisher.token", "s3cret"),
        ("run.timeout", "3s"),
        ("publisher.backoff.max", "100ms"),
    ];
    let (url, command) = (proxy.url(), ["once", "--users", "5"]);
    let options = ingester_options(&command, &api.url(), "http://publisher.invalid", &settings);
    let variables = ["HTTP_PROXY", "http_proxy", "ALL_PROXY"].into_iter();
    let options = variables.fold(options, |options, name| options.env(name, &url));
    let ingester = Service::start(&options).unwrap();
    assert_eq!(exit_code(&ingester).await, Some(1), "{}", ingester.log());
    assert_eq!(run_summary(&ingester)["fetched"], 5);
    assert!(proxy.requests().is_empty(), "{:?}", proxy.requests());
}
