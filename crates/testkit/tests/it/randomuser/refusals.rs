//! Faults without a page, and the injection of faults.

use serde_json::{Value, json};
use testkit::randomuser::{Fault, ServedOutcome};

use super::client::{client, get, start};

#[tokio::test]
async fn server_errors_have_their_status_and_no_json() {
    let api = start().await;
    for (fault, status) in [
        (Fault::InternalError, 500),
        (Fault::BadGateway, 502),
        (Fault::Unavailable, 503),
    ] {
        api.inject(fault, 1);
        let reply = get(&api, "/api/").await;
        assert_eq!(reply.status(), status);
        assert!(reply.json::<Value>().await.is_err());
    }
    assert_eq!(get(&api, "/api/").await.status(), 200);
}

#[tokio::test]
async fn forbidden_page_is_html_with_a_server_header() {
    let api = start().await;
    api.inject(Fault::ForbiddenPage, 1);
    let reply = get(&api, "/api/").await;
    assert_eq!(reply.status(), 403);
    assert_eq!(reply.headers()["server"], "cloudflare");
    assert_eq!(reply.headers()["content-type"], "text/html; charset=UTF-8");
    assert!(reply.text().await.unwrap().starts_with("<!DOCTYPE html>"));
}

#[tokio::test]
async fn error_body_is_200_json_without_results() {
    let api = start().await;
    api.inject(Fault::ErrorBody, 1);
    let reply = get(&api, "/api/").await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "application/json; charset=utf-8");
    let body: Value = reply.json().await.unwrap();
    assert!(body["error"].as_str().unwrap().starts_with("Uh oh"), "{body}");
    assert!(body.get("results").is_none());
}

#[tokio::test]
async fn too_many_requests_has_retry_after_only_with_a_value() {
    let api = start().await;
    api.inject(Fault::TooManyRequests(None), 1);
    api.inject(Fault::TooManyRequests(Some(7)), 1);
    let (bare, with_header) = (get(&api, "/api/").await, get(&api, "/api/").await);
    assert_eq!(
        (bare.status().as_u16(), with_header.status().as_u16()),
        (429, 429)
    );
    assert!(bare.headers().get("retry-after").is_none());
    assert_eq!(with_header.headers()["retry-after"], "7");
    assert_eq!(
        with_header.headers()["content-type"],
        "application/json; charset=utf-8"
    );
}

#[tokio::test]
async fn faults_do_not_count_for_the_rate_limit_and_are_logged() {
    let api = start().await;
    api.inject(Fault::Unavailable, 5);
    for _ in 0..5 {
        assert_eq!(get(&api, "/api/?results=5000").await.status(), 503);
    }
    assert_eq!(get(&api, "/api/?results=5000&inc=nat").await.status(), 200);
    assert_eq!(
        api.requests()[4].outcome,
        ServedOutcome::Faulted(Fault::Unavailable)
    );
}

#[tokio::test]
async fn faults_are_injected_and_removed_over_http() {
    let api = start().await;
    let (client, route) = (client(), format!("{}/_faults", api.url()));
    let inject = async |body: Value| {
        client
            .post(&route)
            .json(&body)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };

    assert_eq!(inject(json!({"fault": "unavailable", "times": 2})).await, 204);
    assert_eq!(inject(json!({"fault": "too_many_requests:3"})).await, 204);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(get(&api, "/api/").await.status().as_u16());
    }
    assert_eq!(statuses, [503, 503, 429, 200]);

    assert_eq!(inject(json!({"fault": "unavailable", "times": 9})).await, 204);
    assert_eq!(client.delete(&route).send().await.unwrap().status(), 204);
    assert_eq!(get(&api, "/api/").await.status(), 200);

    assert_eq!(inject(json!({"fault": "explode"})).await, 422);
    assert_eq!(inject(json!({"fault": "unavailable", "time": 2})).await, 422);
}
