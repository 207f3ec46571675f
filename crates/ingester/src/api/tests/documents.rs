//! Problems, JSON documents and the page.

use super::*;

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
        let response = get_response(&queue, path).await;
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
    let response = get_response(&queue(), "/").await;
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
