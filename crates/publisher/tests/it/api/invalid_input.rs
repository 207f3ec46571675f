//! Inputs that break parsers: each is reported with its record and field, and the valid records around it are
//! written.

use serde_json::{Value, json};

use crate::support::publisher_process::{Publisher, ready, status_and_body};
use crate::support::sample_users::{ids, user, user_with};
use crate::support::topic::Topic;

/// A valid record with `raw` as the JSON text of one field.
fn record_with(field: &str, raw: &str) -> String {
    const PLACEHOLDER: &str = "placeholder";
    user_with(field, json!(PLACEHOLDER))
        .to_string()
        .replace(&format!("\"{PLACEHOLDER}\""), raw)
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// Invalid records as JSON, each with the reported field and a part of the reason.
fn invalid_records() -> Vec<(String, Value, &'static str)> {
    let name = json!("first_name");
    let deep = nested(10_000);
    vec![
        (record_with("first_name", "3"), name.clone(), "must be a string"),
        (
            record_with("first_name", "null"),
            name.clone(),
            "must be a string",
        ),
        (
            record_with("first_name", "1e999"),
            name.clone(),
            "must be a string",
        ),
        (record_with("first_name", &deep), name.clone(), "must be a string"),
        (record_with("first_name", "\"\""), name.clone(), "blank"),
        (
            record_with("first_name", "\"\\u00a0 \\t\""),
            name.clone(),
            "blank",
        ),
        (record_with("first_name", "\"\\ud800\""), name.clone(), "escape"),
        (
            record_with("first_name", "\"\\udc00\\ud800\""),
            name.clone(),
            "escape",
        ),
        (record_with("first_name", "\"a\\u0000b\""), name.clone(), "NUL"),
        (
            record_with("first_name", &format!("\"{}\"", "x".repeat(513))),
            name,
            "512",
        ),
        (
            record_with("frist_name", "\"x\""),
            json!("frist_name"),
            "not a field",
        ),
        (
            record_with("id", "\"00000000-0000-0000-0000-000000000000\""),
            json!("id"),
            "nil",
        ),
        (
            record_with("dob", "\"1968-02-30T00:00:00Z\""),
            json!("dob"),
            "RFC 3339",
        ),
        (deep, Value::Null, "not a JSON object"),
        ("\"text\"".to_owned(), Value::Null, "not a JSON object"),
        ("{}".to_owned(), json!("id"), "missing"),
        (
            record_with("first_name", &format!("\"{}\"", "x".repeat(10 << 20))),
            Value::Null,
            "larger than",
        ),
    ]
}

async fn assert_healthy(publisher: &Publisher) {
    assert!(publisher.child().is_running());
    assert!(!publisher.service.last_lines(1000).contains("panicked"));
    publisher.wait_until_idle().await;
}

async fn assert_written(topic: &Topic, expected: &[Value]) {
    assert_eq!(topic.ids().await, ids(expected).into_iter().collect());
    assert_eq!(topic.read().await.len(), expected.len());
}

#[tokio::test]
async fn single_invalid_record_is_422_with_its_field() {
    let (publisher, topic) = ready().await;
    for (record, field, reason) in invalid_records() {
        let shown: String = record.chars().take(300).collect();
        let (status, body) = status_and_body(publisher.post("application/json", record)).await;
        // A nested array is an array of one record.
        assert_eq!(status, 422, "{shown}");
        assert_eq!(body["errors"][0]["field"], field, "{shown}");
        let found = body["errors"][0]["reason"].as_str().unwrap();
        assert!(found.contains(reason), "{found}: {shown}");
    }
    assert_written(&topic, &[]).await;
    assert_healthy(&publisher).await;
}

#[tokio::test]
async fn invalid_record_does_not_affect_valid_ones() {
    let (publisher, topic) = ready().await;
    let mut good = Vec::new();
    for (record, field, reason) in invalid_records() {
        for (content_type, (open, between, close)) in [
            ("application/json", ("[", ",", "]")),
            ("application/x-ndjson", ("", "\n", "\n")),
        ] {
            let (before, after) = (user(), user());
            let body = format!("{open}{before}{between}{record}{between}{after}{close}");
            let (status, body) = status_and_body(publisher.post(content_type, body)).await;
            assert_eq!((status, &body["accepted"]), (207, &json!(2)), "{reason}: {body}");
            assert_eq!(body["errors"].as_array().unwrap().len(), 1);
            assert_eq!(body["errors"][0]["index"], 1);
            assert_eq!(body["errors"][0]["field"], field);
            good.extend([before, after]);
        }
    }
    assert_written(&topic, &good).await;
    assert_healthy(&publisher).await;
}

#[tokio::test]
async fn truncated_or_non_utf8_line_affects_only_itself() {
    let (publisher, topic) = ready().await;
    let good: Vec<_> = (0..4).map(|_| user()).collect();
    let cut = format!("{}\n{}\n{}", good[0], good[1], &user().to_string()[..99]);
    let (status, body) = status_and_body(publisher.post("application/x-ndjson", cut)).await;
    assert_eq!((status, &body["errors"][0]["index"]), (207, &json!(2)));
    assert!(
        body["errors"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("not valid JSON")
    );

    let mut not_utf8 = format!("{}\n", good[2]).into_bytes();
    not_utf8.extend(b"{\"id\": \"\xff\xfe\"}\n");
    not_utf8.extend(good[3].to_string().into_bytes());
    let (status, body) = status_and_body(publisher.post("application/x-ndjson", not_utf8)).await;
    assert_eq!((status, &body["errors"][0]["index"]), (207, &json!(1)));
    assert!(body["errors"][0]["reason"].as_str().unwrap().contains("UTF-8"));
    assert_written(&topic, &good).await;
}

#[tokio::test]
async fn body_that_is_not_json_is_400_without_writes() {
    let (publisher, topic) = ready().await;
    let good = user().to_string();
    let bodies: [Vec<u8>; 8] = [
        b"".to_vec(),
        b"{".to_vec(),
        format!("[{good},{good}").into_bytes(),
        format!("[{good},{good}}}").into_bytes(),
        format!("{good}{good}").into_bytes(),
        [b"[\"\xff\",".as_slice(), good.as_bytes(), b"]"].concat(),
        "[".repeat(10_000).into_bytes(),
        b"\xef\xbb\xbf{}".to_vec(),
    ];
    for body in bodies {
        let (status, problem) = status_and_body(publisher.post("application/json", body)).await;
        assert_eq!(status, 400);
        assert!(problem["line"].as_u64().unwrap() >= 1, "{problem}");
        assert!(problem["column"].is_u64(), "{problem}");
    }
    assert_written(&topic, &[]).await;
    assert_healthy(&publisher).await;
}
