//! Every row of the README's table of responses.

use serde_json::{Value, json};

use crate::support::broker;
use crate::support::publisher_process::{Publisher, erase, read_response, ready, setup, status_and_body};
use crate::support::sample_users::{ids, user, user_with, users};
use crate::support::topic::Topic;

const JSON: &str = "application/json";

#[tokio::test]
async fn object_array_and_lines_are_accepted() {
    let (publisher, topic) = ready().await;
    let one = user();
    let (status, body) =
        status_and_body(publisher.post("application/json; charset=utf-8", one.to_string())).await;
    assert_eq!((status, body), (200, json!({"accepted": 1, "rejected": 0})));
    let many = users(100);
    assert_eq!(
        publisher.send(&many).await,
        (200, json!({"accepted": 100, "rejected": 0}))
    );
    let line = user();
    let body = format!("\n{line}\r\n\n{}\n", user_with("id", one["id"].clone()));
    let (status, body) = status_and_body(publisher.post("application/x-ndjson", body)).await;
    assert_eq!((status, &body["accepted"]), (200, &json!(2)));
    let mut sent = ids(&many);
    sent.extend(ids(&[one, line]));
    assert_eq!(topic.ids().await, sent.into_iter().collect());
    assert_eq!(topic.read().await.len(), 103);
}

#[tokio::test]
async fn invalid_records_are_listed_and_the_others_written() {
    let (publisher, topic) = ready().await;
    let bad = user_with("email", json!("secret-value"));
    let records = [user(), bad.clone(), json!(3), user()];
    let (status, body) = publisher.send(&records).await;
    assert_eq!(status, 207);
    assert_eq!((&body["accepted"], &body["rejected"]), (&json!(2), &json!(2)));
    let errors = body["errors"].as_array().unwrap();
    assert_eq!(errors[0]["index"], 1);
    assert_eq!(errors[0]["id"], bad["id"]);
    assert_eq!(errors[0]["field"], "email");
    assert!(errors[0]["reason"].as_str().unwrap().contains("e-mail"));
    assert_eq!(
        (&errors[1]["index"], &errors[1]["field"]),
        (&json!(2), &Value::Null)
    );
    assert!(!body.to_string().contains("secret-value"));
    assert!(!publisher.service.last_lines(1000).contains("secret-value"));
    let accepted = [records[0].clone(), records[3].clone()];
    assert_eq!(topic.ids().await, ids(&accepted).into_iter().collect());
    assert_eq!(
        publisher
            .metric("records_rejected_total{reason=\"not_an_email\"}")
            .await,
        1.0
    );
    assert_eq!(
        publisher
            .metric("records_rejected_total{reason=\"not_an_object\"}")
            .await,
        1.0
    );
    assert_eq!(publisher.metric("records_total{outcome=\"rejected\"}").await, 2.0);
    assert_eq!(publisher.metric("records_total{outcome=\"accepted\"}").await, 2.0);
    assert_eq!(publisher.metric("requests_total{status=\"207\"}").await, 1.0);
}

#[tokio::test]
async fn only_invalid_records_are_422_without_writes() {
    let (publisher, topic) = ready().await;
    let (status, body) = publisher.send(&[user_with("first_name", json!(" "))]).await;
    assert_eq!(status, 422);
    assert_eq!((&body["accepted"], &body["rejected"]), (&json!(0), &json!(1)));
    assert_eq!(body["errors"][0]["field"], "first_name");
    assert!(topic.read().await.is_empty());
}

#[tokio::test]
async fn rejected_request_is_a_problem_document() {
    let (publisher, topic) = ready().await;
    let good = user().to_string();
    let cases = [
        (publisher.post(JSON, "{\"id\":\n \"x\" "), 400, "not-json"),
        (publisher.post(JSON, "[ ]"), 400, "no-records"),
        (publisher.post("application/x-ndjson", "\n\n"), 400, "no-records"),
        (
            publisher.post("text/plain", good.clone()),
            415,
            "unsupported-media-type",
        ),
        (
            publisher.client.post(format!("{}/v1/users", publisher.url)),
            415,
            "unsupported-media-type",
        ),
        (
            publisher.post(JSON, good.clone()).header("run-seq", "x"),
            400,
            "bad-header",
        ),
        (
            publisher.post(JSON, good.clone()).header("fetched-at-us", "now"),
            400,
            "bad-header",
        ),
        (
            publisher.post(JSON, good.clone()).header("run-id", ""),
            400,
            "bad-header",
        ),
        (
            publisher
                .post(JSON, good.clone())
                .header("run-id", "a")
                .header("run-id", "b"),
            400,
            "bad-header",
        ),
        (
            publisher
                .post(JSON, good.clone())
                .header("content-type", "application/x-ndjson"),
            400,
            "bad-header",
        ),
        (
            publisher
                .post(JSON, good.clone())
                .header("content-encoding", "br"),
            415,
            "unsupported-encoding",
        ),
        (
            publisher.client.get(format!("{}/v1/nothing", publisher.url)),
            404,
            "not-found",
        ),
        (
            publisher.client.get(format!("{}/v1/users", publisher.url)),
            405,
            "wrong-method",
        ),
        (
            publisher.client.delete(format!("{}/v1/users/7", publisher.url)),
            400,
            "not-an-id",
        ),
        (
            // Not UTF-8.
            publisher.client.delete(format!("{}/v1/users/%FF", publisher.url)),
            400,
            "not-an-id",
        ),
    ];
    for (request, status, kind) in cases {
        let response = request.send().await.unwrap();
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{kind}"
        );
        let (found, body) = read_response(response).await;
        assert_eq!((found, &body["status"]), (status, &json!(status)), "{kind}");
        assert_eq!(body["type"], format!("urn:affluent:problem:{kind}"));
        assert!(body["title"].is_string() && body["detail"].is_string());
    }
    let (_, body) = status_and_body(publisher.post(JSON, "{\"id\":\n \"x\" ")).await;
    assert_eq!((&body["line"], &body["column"]), (&json!(2), &json!(5)));
    assert!(topic.read().await.is_empty());
}

#[tokio::test]
async fn oversized_bodies_and_records_are_rejected() {
    let topic = Topic::new(&broker::shared().await);
    let publisher =
        Publisher::start(&setup(&topic.brokers, &topic.name).set("limits.max_records", "10")).await;
    publisher.wait_until_ready().await;
    let (status, body) = status_and_body(publisher.post(JSON, vec![b' '; 17 << 20])).await;
    assert_eq!(
        (status, &body["type"]),
        (413, &json!("urn:affluent:problem:body-too-large"))
    );
    let endless = futures::stream::iter(
        std::iter::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 20])).take(20),
    );
    let (status, _) = status_and_body(publisher.post(JSON, reqwest::Body::wrap_stream(endless))).await;
    assert_eq!(status, 413);
    let (status, body) = publisher.send(&users(11)).await;
    assert_eq!(
        (status, &body["type"]),
        (413, &json!("urn:affluent:problem:too-many-records"))
    );
    let large = user_with("first_name", json!("x".repeat(10 << 20)));
    let (status, body) = publisher.send(&[large, user()]).await;
    assert_eq!((status, &body["accepted"]), (207, &json!(1)));
    assert_eq!(body["errors"][0]["reason"], "is larger than 65536 bytes");
    assert_eq!(topic.read().await.len(), 1);
    publisher.wait_until_idle().await;
}

/// The record padded with spaces to `length` bytes.
fn padded(record: &Value, length: usize) -> Vec<u8> {
    let text = record.to_string();
    let spaces = vec![b' '; length - text.len()];
    [b"{", &spaces[..], &text.as_bytes()[1..]].concat()
}

#[tokio::test]
async fn size_limits_are_exact_to_the_byte() {
    const RECORD: usize = 64 << 10;
    const BODY: usize = 16 << 20;
    let (publisher, topic) = ready().await;
    let (status, body) = status_and_body(publisher.post(JSON, padded(&user(), RECORD))).await;
    assert_eq!((status, &body["accepted"]), (200, &json!(1)));
    let (status, body) = status_and_body(publisher.post(JSON, padded(&user(), RECORD + 1))).await;
    assert_eq!((status, &body["rejected"]), (422, &json!(1)));
    let records = vec![String::from_utf8(padded(&user(), RECORD - 2)).unwrap(); BODY / RECORD];
    let mut body = format!("[{}]", records.join(",")).into_bytes();
    body.resize(BODY, b' ');
    let (status, summary) = status_and_body(publisher.post(JSON, body.clone())).await;
    assert_eq!((status, &summary["accepted"]), (200, &json!(BODY / RECORD)));
    body.push(b' ');
    assert_eq!(status_and_body(publisher.post(JSON, body)).await.0, 413);
    assert_eq!(topic.read().await.len(), 1 + BODY / RECORD);
    publisher.wait_until_idle().await;
}

#[tokio::test]
async fn record_above_the_topics_limit_is_422() {
    let topic = Topic::new(&broker::shared().await);
    broker::create_topic(&topic.brokers, &topic.name, &[("max.message.bytes", "500")]).await;
    let publisher = Publisher::start(&setup(&topic.brokers, &topic.name)).await;
    publisher.wait_until_ready().await;
    let incompressible: String = (0..30).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    let large = user_with("address", json!(&incompressible[..500]));
    let (status, body) = publisher.send(std::slice::from_ref(&large)).await;
    assert_eq!(status, 422, "{body}");
    assert_eq!(
        (&body["accepted"], &body["rejected"]),
        (&json!(0), &json!(1)),
        "{body}"
    );
    assert_eq!(
        body["errors"][0]["reason"],
        "is larger than the topic's limit of 500 bytes"
    );
    let metric = "records_rejected_total{reason=\"too_large\"}";
    assert_eq!(publisher.metric(metric).await, 1.0);
    assert!(topic.read().await.is_empty());
}

#[tokio::test]
async fn publisher_without_kafka_responds_503_and_is_unready() {
    let publisher = Publisher::start(&setup("127.0.0.1:1", "nowhere")).await;
    let response = publisher.post(JSON, user().to_string()).send().await.unwrap();
    let retry_after = response.headers()["retry-after"].to_str().unwrap();
    assert!((2..=4).contains(&retry_after.parse().unwrap()), "{retry_after}");
    let (status, body) = read_response(response).await;
    assert_eq!(
        (status, &body["type"]),
        (503, &json!("urn:affluent:problem:kafka-unavailable"))
    );
    assert_eq!(erase(&publisher, &uuid::Uuid::new_v4().to_string()).await.0, 503);
    publisher
        .wait_until("reporting the cause", async || {
            let (status, body) = publisher.readiness().await;
            let reason = body["dependencies"][0]["reason"].to_string();
            assert_eq!(status, 503);
            assert_eq!(body["dependencies"][0]["name"], "kafka");
            reason.contains("no broker responds") && reason.contains("Connection refused")
        })
        .await;
    let health = publisher
        .client
        .get(format!("{}/healthz", publisher.admin))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), 200, "a restart would not help");
}

#[tokio::test]
async fn deleted_user_is_a_tombstone_after_its_record() {
    let (publisher, topic) = ready().await;
    let user = user();
    assert_eq!(publisher.send(std::slice::from_ref(&user)).await.0, 200);
    let id = user["id"].as_str().unwrap();
    let request = publisher
        .client
        .delete(format!("{}/v1/users/{id}", publisher.url));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (status, _) = status_and_body(request.header("traceparent", trace)).await;
    assert_eq!(status, 204);
    let records = topic.read().await;
    let tombstone = records.iter().find(|record| record.value.is_none()).unwrap();
    assert_eq!(tombstone.key, id);
    assert_eq!(records[0].partition, tombstone.partition);
    assert!(records[0].offset < tombstone.offset || records[0].value.is_none());
    assert_eq!(tombstone.headers["traceparent"], trace);
    assert!(!tombstone.headers.contains_key("content-type"));
}
