//! Request ids, the access log, CORS, and the methods `OPTIONS` and `HEAD`.

use crate::support::publisher_process::{Publisher, erase, ready, ready_with, status_and_body};
use crate::support::sample_users::user;

/// The lines of the access log.
fn access_log(publisher: &Publisher) -> Vec<serde_json::Value> {
    let log = publisher.service.last_lines(100);
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line["message"] == "request").collect()
}

#[tokio::test]
async fn request_id_is_taken_or_created() {
    let (publisher, _) = ready().await;
    let id = async |given: Option<&str>| {
        let mut request = publisher.post("application/json", user().to_string());
        if let Some(given) = given {
            request = request.header("x-request-id", given);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(id(Some("a-1")).await, "a-1");
    assert_eq!(id(Some("a b")).await.len(), 32);
    assert_ne!(id(None).await, id(None).await);
    let response = publisher
        .client
        .get(format!("{}/nothing", publisher.url))
        .send()
        .await;
    assert_eq!(response.unwrap().headers()["x-request-id"].len(), 32);
    assert!(access_log(&publisher).is_empty(), "the access log is off");
}

#[tokio::test]
async fn access_log_has_ids_and_no_values() {
    let (publisher, _) = ready_with(|setup| setup.set("http.access_log", "all")).await;
    let user = user();
    let key = user["id"].as_str().unwrap();
    let request = publisher.post("application/json", user.to_string());
    let (status, _) = status_and_body(request.header("x-request-id", "a-1")).await;
    assert_eq!((status, erase(&publisher, key).await.0), (200, 204));
    let lines = async || {
        publisher
            .wait_until("logged", async || access_log(&publisher).len() == 2)
            .await;
        access_log(&publisher)
    };
    let lines = lines().await;
    let of = |line: usize, field: &str| lines[line][field].as_str().unwrap_or_default();
    let fields = ["request_id", "method", "route", "caller", "status"];
    assert_eq!(
        fields.map(|field| of(0, field)),
        ["a-1", "POST", "resource", "anonymous", "200"]
    );
    assert_eq!((of(1, "method"), of(1, "route")), ("DELETE", "key"));
    assert!(lines[0]["duration_ms"].is_number());
    let log = publisher.service.last_lines(100);
    assert!(!log.contains(key) && !log.contains("zoe@example.com"), "{log}");
}

#[tokio::test]
async fn access_log_of_errors_has_no_successes() {
    let (publisher, _) = ready_with(|setup| setup.set("http.access_log", "errors")).await;
    let send = async |content_type: &str| {
        status_and_body(publisher.post(content_type, user().to_string()))
            .await
            .0
    };
    assert_eq!(
        (send("application/json").await, send("text/plain").await),
        (200, 415)
    );
    publisher
        .wait_until("logged", async || !access_log(&publisher).is_empty())
        .await;
    let lines = access_log(&publisher);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["status"], "415");
}

#[tokio::test]
async fn options_lists_methods_and_head_has_no_body() {
    let (publisher, _) = ready().await;
    let send = async |method: reqwest::Method, path: &str| {
        let request = publisher
            .client
            .request(method, format!("{}{path}", publisher.url));
        let response = request.send().await.unwrap();
        let headers = response.headers();
        let text = |name: &str| {
            headers
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
                .to_owned()
        };
        (response.status().as_u16(), text("allow"), text("content-length"))
    };
    for (path, allow) in [
        ("/v1/users", "POST"),
        ("/v1/users/7", "DELETE"),
        ("/v1/schema", "GET,HEAD"),
    ] {
        let (status, allowed, _) = send(reqwest::Method::OPTIONS, path).await;
        assert_eq!((status, allowed.as_str()), (204, allow), "{path}");
    }
    assert_eq!(send(reqwest::Method::OPTIONS, "/nothing").await.0, 404);
    let (status, _, length) = send(reqwest::Method::HEAD, "/v1/schema").await;
    assert!(
        status == 200 && length.parse::<usize>().unwrap() > 1_000,
        "{status} {length}"
    );
    let (status, allow, _) = send(reqwest::Method::HEAD, "/v1/users").await;
    assert_eq!((status, allow.as_str()), (405, "POST"));
}

#[tokio::test]
async fn only_configured_origins_may_call_from_a_browser() {
    let origin = "https://app.example.com";
    let (open, _) = ready_with(|setup| setup.set("http.cors_origins", origin)).await;
    let (closed, _) = ready().await;
    let allowed = async |publisher: &Publisher, method: reqwest::Method, origin: &str| {
        let request = publisher
            .client
            .request(method, format!("{}/v1/users", publisher.url))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "content-type,kafka-header-source",
            );
        let headers = request.send().await.unwrap().headers().clone();
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (
            text("access-control-allow-origin"),
            text("access-control-allow-headers"),
            text("access-control-expose-headers"),
        )
    };
    let preflight = allowed(&open, reqwest::Method::OPTIONS, origin).await;
    assert_eq!(preflight.0.as_deref(), Some(origin));
    assert_eq!(preflight.1.as_deref(), Some("content-type,kafka-header-source"));
    let response = allowed(&open, reqwest::Method::POST, origin).await;
    assert_eq!(response.0.as_deref(), Some(origin));
    assert!(response.2.is_some_and(|exposed| exposed.contains("x-request-id")));
    for method in [reqwest::Method::OPTIONS, reqwest::Method::POST] {
        assert_eq!(
            allowed(&open, method.clone(), "https://evil.example").await.0,
            None
        );
        assert_eq!(allowed(&closed, method, origin).await.0, None);
    }
}
