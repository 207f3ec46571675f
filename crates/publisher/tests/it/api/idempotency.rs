//! A retry with the same idempotency key gets the first response and writes nothing.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::api::auth::token_line;
use crate::support::broker;
use crate::support::publisher_process::{Publisher, read_response, ready, setup, status_and_body};
use crate::support::sample_users::{user_with, users};
use crate::support::topic::Topic;

fn keyed(publisher: &Publisher, key: &str, records: &[Value]) -> RequestBuilder {
    publisher
        .post("application/json", serde_json::to_vec(records).unwrap())
        .header("idempotency-key", key)
}

#[tokio::test]
async fn retry_gets_the_first_response_and_writes_nothing() {
    let (publisher, topic) = ready().await;
    let good = users(3);
    let mixed = [users(1).remove(0), user_with("gender", json!(" "))];
    let bad = [user_with("gender", json!(" "))];
    for (key, records, status) in [
        ("a", good.as_slice(), 200),
        ("b", &mixed, 207),
        ("\"c\"", &bad, 422),
    ] {
        let first = status_and_body(keyed(&publisher, key, records)).await;
        assert_eq!(first.0, status);
        let again = keyed(&publisher, key, records).send().await.unwrap();
        assert_eq!(again.headers()["idempotency-replayed"], "true");
        assert_eq!(read_response(again).await, first);
    }
    assert_eq!(topic.read().await.len(), 4);
    let (status, body) = status_and_body(keyed(&publisher, "a", &users(1))).await;
    assert_eq!(
        (status, &body["type"]),
        (422, &json!("urn:affluent:problem:idempotency-key-reused"))
    );
    assert_eq!(
        status_and_body(keyed(&publisher, "d", &good)).await.0,
        200,
        "another key is another request"
    );
    assert_eq!(topic.read().await.len(), 7);
    for (result, count) in [("new", 4.0), ("replayed", 3.0), ("conflict", 1.0)] {
        let metric = format!("idempotency_total{{result=\"{result}\"}}");
        assert_eq!(publisher.metric(&metric).await, count, "{result}");
    }
    for key in ["", "a b"] {
        assert_eq!(status_and_body(keyed(&publisher, key, &good)).await.0, 400);
    }
}

#[tokio::test]
async fn concurrent_requests_with_one_key_write_once() {
    let (publisher, topic) = ready().await;
    let records = users(10);
    let requests = (0..20).map(|_| status_and_body(keyed(&publisher, "k", &records)));
    for (status, body) in futures::future::join_all(requests).await {
        assert_eq!((status, body), (200, json!({"accepted": 10, "rejected": 0})));
    }
    assert_eq!(topic.read().await.len(), 10);
}

#[tokio::test]
async fn disconnected_caller_finds_its_response() {
    let kafka = broker::own().await;
    let topic = Topic::new(&kafka.bootstrap());
    kafka.node(0).unwrap().freeze().await.unwrap();
    let publisher = Publisher::start(&setup(&topic.brokers, &topic.name)).await;
    let records = users(5);
    assert_eq!(status_and_body(keyed(&publisher, "early", &records)).await.0, 503);
    kafka.node(0).unwrap().thaw().unwrap();
    publisher.wait_until_ready().await;
    let early = keyed(&publisher, "early", &records).send().await.unwrap();
    assert!(!early.headers().contains_key("idempotency-replayed"));
    assert_eq!(read_response(early).await.0, 200, "a 503 is not cached");
    kafka.node(0).unwrap().freeze().await.unwrap();
    let leaving = tokio::spawn(status_and_body(keyed(&publisher, "left", &records)));
    publisher
        .wait_until("in flight", async || {
            publisher.metric("records_in_flight").await == 5.0
        })
        .await;
    leaving.abort();
    publisher
        .wait_until("disconnected", async || {
            publisher.metric("requests_in_flight").await == 0.0
        })
        .await;
    kafka.node(0).unwrap().thaw().unwrap();
    publisher.wait_until_ready().await;
    let written = topic.read().await.len();
    let again = keyed(&publisher, "left", &records).send().await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(read_response(again).await.0, 200);
    assert_eq!(
        topic.read().await.len(),
        written.max(10),
        "the retry wrote nothing"
    );

    kafka.node(0).unwrap().freeze().await.unwrap();
    let (status, _) = status_and_body(keyed(&publisher, "doubt", &records)).await;
    assert_eq!(status, 504);
    kafka.node(0).unwrap().thaw().unwrap();
    publisher.wait_until_ready().await;
    let (status, _) = status_and_body(keyed(&publisher, "doubt", &records)).await;
    assert_eq!(status, 200, "a doubt is not remembered");
}

#[tokio::test]
async fn cached_response_is_sent_while_kafka_is_down() {
    let kafka = broker::own().await;
    let topic = Topic::new(&kafka.bootstrap());
    let publisher = Publisher::start(&setup(&topic.brokers, &topic.name)).await;
    publisher.wait_until_ready().await;
    let records = users(3);
    let first = status_and_body(keyed(&publisher, "k", &records)).await;
    assert_eq!(first.0, 200);
    kafka.node(0).unwrap().freeze().await.unwrap();
    publisher
        .wait_until("unready", async || publisher.readiness().await.0 == 503)
        .await;
    let again = keyed(&publisher, "k", &records).send().await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(read_response(again).await, first);
    assert_eq!(status_and_body(keyed(&publisher, "k", &users(1))).await.0, 422);
    assert_eq!(status_and_body(keyed(&publisher, "new", &records)).await.0, 503);
    kafka.node(0).unwrap().thaw().unwrap();
}

#[tokio::test]
async fn waiting_retry_holds_no_memory_for_its_body() {
    let kafka = broker::own().await;
    let topic = Topic::new(&kafka.bootstrap());
    let publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            .set("kafka.message_timeout", "10s")
            .set("http.request_timeout", "20s"),
    )
    .await;
    publisher.wait_until_ready().await;
    kafka.node(0).unwrap().freeze().await.unwrap();
    let records = users(2_000);
    let bytes = async || publisher.metric("bytes_in_flight").await;
    let requests = async |count: f64| publisher.metric("requests_in_flight").await == count;
    let first = status_and_body(keyed(&publisher, "k", &records));
    let retries = async {
        publisher
            .wait_until("in flight", async || {
                requests(1.0).await && publisher.metric("records_in_flight").await == 2_000.0
            })
            .await;
        let held = bytes().await;
        let retries = (0..3).map(|_| status_and_body(keyed(&publisher, "k", &records)));
        let waiting = async {
            publisher
                .wait_until("waiting without bodies", async || {
                    requests(4.0).await && bytes().await < held * 1.1
                })
                .await;
            kafka.node(0).unwrap().thaw().unwrap();
        };
        tokio::join!(futures::future::join_all(retries), waiting).0
    };
    let (first, retries) = tokio::join!(first, retries);
    assert_eq!(first.0, 200);
    assert!(retries.iter().all(|retry| *retry == first), "{retries:?}");
    publisher.wait_until_idle().await;
}

/// Two callers may use the same key.
#[tokio::test]
async fn key_is_scoped_to_its_caller() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, token_line("one", "1") + &token_line("other", "2")).unwrap();
    let topic = Topic::new(&broker::shared().await);
    let publisher =
        Publisher::start(&setup(&topic.brokers, &topic.name).set("auth.tokens_path", path.to_str().unwrap()))
            .await;
    publisher.wait_until_ready().await;
    let (ones, others) = (users(2), users(3));
    for (token, records) in [("1", &ones), ("2", &others)] {
        let (status, body) = status_and_body(keyed(&publisher, "k", records).bearer_auth(token)).await;
        assert_eq!((status, &body["accepted"]), (200, &json!(records.len())));
    }
    let again = keyed(&publisher, "k", &ones)
        .bearer_auth("1")
        .send()
        .await
        .unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(read_response(again).await.1["accepted"], 2);
    assert_eq!(topic.read().await.len(), 5);
}

#[tokio::test]
async fn retry_waits_for_the_request_in_progress() {
    let kafka = broker::own().await;
    let topic = Topic::new(&kafka.bootstrap());
    let publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            // No probe may time out while the broker is frozen.
            .set("kafka.probe_timeout", "30s")
            .set("kafka.message_timeout", "20s")
            .set("http.request_timeout", "30s")
            .set("process.shutdown_grace", "40s"),
    )
    .await;
    publisher.wait_until_ready().await;
    let records = users(4);
    kafka.node(0).unwrap().freeze().await.unwrap();
    let in_flight = async |requests: f64| publisher.metric("requests_in_flight").await == requests;
    let first = tokio::spawn(keyed(&publisher, "k", &records).send());
    publisher
        .wait_until("in flight", async || {
            publisher.metric("records_in_flight").await == 4.0
        })
        .await;
    let repeat = tokio::spawn(keyed(&publisher, "k", &records).send());
    publisher
        .wait_until("waiting", async || in_flight(2.0).await)
        .await;
    // Another body is rejected at once, while the first request is in progress.
    assert_eq!(status_and_body(keyed(&publisher, "k", &users(1))).await.0, 422);
    assert_eq!(
        publisher.metric("records_in_flight").await,
        4.0,
        "only the records of the first request"
    );
    assert!(!first.is_finished() && !repeat.is_finished());
    kafka.node(0).unwrap().thaw().unwrap();
    let (first, repeat) = (first.await.unwrap().unwrap(), repeat.await.unwrap().unwrap());
    assert!(!first.headers().contains_key("idempotency-replayed"));
    assert_eq!(repeat.headers()["idempotency-replayed"], "true");
    let first = read_response(first).await;
    assert_eq!((first.0, &first.1["accepted"]), (200, &json!(4)));
    assert_eq!(read_response(repeat).await, first);
    assert_eq!(topic.read().await.len(), 4);
}

/// An evicted response only costs a duplicate, which the streamer tolerates.
#[tokio::test]
async fn responses_are_evicted_by_number_and_age() {
    let topic = Topic::new(&broker::shared().await);
    let publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            .set("idempotency.entries", "2")
            .set("idempotency.age", "2s"),
    )
    .await;
    publisher.wait_until_ready().await;
    let records = users(1);
    let replayed = async |key: &str| {
        let response = keyed(&publisher, key, &records).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.headers().contains_key("idempotency-replayed")
    };
    for key in ["a", "b", "c"] {
        assert!(!replayed(key).await);
    }
    assert!(!replayed("a").await, "the third evicted it");
    publisher
        .wait_until("evicted", async || !replayed("a").await)
        .await;
}
