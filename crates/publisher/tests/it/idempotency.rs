//! A repeat under the same key hears the first answer and writes nothing.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::broker;
use crate::running::{Publisher, answer, document, ready, setup};
use crate::topic::Topic;
use crate::users::{user_with, users};

fn keyed(publisher: &Publisher, key: &str, records: &[Value]) -> RequestBuilder {
    publisher
        .post("application/json", serde_json::to_vec(records).unwrap())
        .header("idempotency-key", key)
}

#[tokio::test]
async fn a_repeat_hears_the_first_answer_and_writes_nothing() {
    let (publisher, topic) = ready().await;
    let good = users(3);
    let mixed = [users(1).remove(0), user_with("gender", json!(" "))];
    let bad = [user_with("gender", json!(" "))];
    for (key, records, status) in [
        ("a", good.as_slice(), 200),
        ("b", &mixed, 207),
        ("\"c\"", &bad, 422),
    ] {
        let first = answer(keyed(&publisher, key, records)).await;
        assert_eq!(first.0, status);
        let again = keyed(&publisher, key, records).send().await.unwrap();
        assert_eq!(again.headers()["idempotency-replayed"], "true");
        assert_eq!(document(again).await, first);
    }
    assert_eq!(topic.read().await.len(), 4);
    let (status, body) = answer(keyed(&publisher, "a", &users(1))).await;
    assert_eq!(
        (status, &body["type"]),
        (422, &json!("urn:affluent:problem:idempotency-key-reused"))
    );
    assert_eq!(
        answer(keyed(&publisher, "d", &good)).await.0,
        200,
        "another key is another request"
    );
    assert_eq!(topic.read().await.len(), 7);
    for (result, count) in [("first", 4.0), ("repeated", 3.0), ("reused", 1.0)] {
        let metric = format!("idempotency_total{{result=\"{result}\"}}");
        assert_eq!(publisher.metric(&metric).await, count, "{result}");
    }
    for key in ["", "a b"] {
        assert_eq!(answer(keyed(&publisher, key, &good)).await.0, 400);
    }
}

#[tokio::test]
async fn many_at_once_under_one_key_write_once() {
    let (publisher, topic) = ready().await;
    let records = users(10);
    let requests = (0..20).map(|_| answer(keyed(&publisher, "k", &records)));
    for (status, body) in futures::future::join_all(requests).await {
        assert_eq!((status, body), (200, json!({"accepted": 10, "rejected": 0})));
    }
    assert_eq!(topic.read().await.len(), 10);
}

#[tokio::test]
async fn a_caller_who_left_finds_the_answer_and_what_failed_is_not_remembered() {
    let kafka = broker::own().await;
    let topic = Topic::fresh(&kafka.bootstrap());
    kafka.node(0).unwrap().freeze().await.unwrap();
    let publisher = setup(&topic.brokers, &topic.name).start().await;
    let records = users(5);
    assert_eq!(answer(keyed(&publisher, "early", &records)).await.0, 503);
    kafka.node(0).unwrap().thaw().unwrap();
    publisher.wait_until_ready().await;
    let early = keyed(&publisher, "early", &records).send().await.unwrap();
    assert!(!early.headers().contains_key("idempotency-replayed"));
    assert_eq!(
        document(early).await.0,
        200,
        "what was not written is not remembered"
    );
    kafka.node(0).unwrap().freeze().await.unwrap();
    let leaving = tokio::spawn(answer(keyed(&publisher, "left", &records)));
    publisher
        .wait_until("taken", async || {
            publisher.metric("records_in_flight").await == 5.0
        })
        .await;
    leaving.abort();
    publisher
        .wait_until("noticed", async || {
            publisher.metric("requests_in_flight").await == 0.0
        })
        .await;
    kafka.node(0).unwrap().thaw().unwrap();
    publisher.wait_until_ready().await;
    let written = topic.read().await.len();
    let again = keyed(&publisher, "left", &records).send().await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(document(again).await.0, 200);
    assert_eq!(
        topic.read().await.len(),
        written.max(10),
        "the repeat wrote nothing"
    );

    kafka.node(0).unwrap().freeze().await.unwrap();
    let (status, _) = answer(keyed(&publisher, "doubt", &records)).await;
    assert_eq!(status, 504);
    kafka.node(0).unwrap().thaw().unwrap();
    publisher.wait_until_ready().await;
    let (status, _) = answer(keyed(&publisher, "doubt", &records)).await;
    assert_eq!(status, 200, "a doubt is not remembered");
}
