//! Faults that leave no page, and how faults are injected.

use serde_json::{Value, json};
use testkit::randomuser::{Fault, Outcome};

use crate::client::{client, get, start};

#[tokio::test]
async fn server_errors_come_with_their_status_and_no_json() {
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
async fn the_forbidden_page_is_html_that_names_its_server() {
    let api = start().await;
    api.inject(Fault::ForbiddenPage, 1);
    let reply = get(&api, "/api/").await;
    assert_eq!(reply.status(), 403);
    assert_eq!(reply.headers()["server"], "cloudflare");
    assert_eq!(reply.headers()["content-type"], "text/html; charset=UTF-8");
    assert!(reply.text().await.unwrap().starts_with("<!DOCTYPE html>"));
}

#[tokio::test]
async fn the_error_body_is_a_200_of_json_without_results() {
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
async fn a_429_comes_with_and_without_retry_after() {
    let api = start().await;
    api.inject(Fault::TooManyRequests(None), 1);
    api.inject(Fault::TooManyRequests(Some(7)), 1);
    let (bare, told) = (get(&api, "/api/").await, get(&api, "/api/").await);
    assert_eq!((bare.status().as_u16(), told.status().as_u16()), (429, 429));
    assert!(bare.headers().get("retry-after").is_none());
    assert_eq!(told.headers()["retry-after"], "7");
    assert_eq!(told.headers()["content-type"], "application/json; charset=utf-8");
}

#[tokio::test]
async fn a_refusal_costs_no_budget_and_is_journalled_as_a_fault() {
    let api = start().await;
    api.inject(Fault::Unavailable, 5);
    for _ in 0..5 {
        assert_eq!(get(&api, "/api/?results=5000").await.status(), 503);
    }
    assert_eq!(get(&api, "/api/?results=5000&inc=nat").await.status(), 200);
    assert_eq!(api.requests()[4].outcome, Outcome::Faulted(Fault::Unavailable));
}

#[tokio::test]
async fn scripts_inject_faults_and_take_them_back() {
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
