//! Keys in paths and in the topic: texts with escapes, integers, and uuids in any case.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::publisher_process::{Publisher, erase, ready, ready_with_record, status_and_body};
use crate::support::sample_contracts::{ORDERS, READINGS, order};
use crate::support::sample_users::user_with;
use crate::support::topic::Topic;

/// Asserts that a `DELETE` is rejected because of its key.
async fn assert_not_a_key(publisher: &Publisher, escaped: &str, reason: &str) {
    let (status, problem) = erase(publisher, escaped).await;
    assert_eq!(
        (status, &problem["type"]),
        (400, &json!("urn:affluent:problem:not-an-id")),
        "{escaped}"
    );
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(reason), "{escaped}: {detail}");
}

/// Asserts that the topic has a record of the key, then its tombstone, in one partition.
async fn assert_written_and_erased(topic: &Topic, key: &str) {
    let records: Vec<_> = topic
        .read()
        .await
        .into_iter()
        .filter(|record| record.key == key)
        .collect();
    assert_eq!(records.len(), 2, "{key}");
    assert_eq!(records[0].partition, records[1].partition, "{key}");
    assert!(records[0].value.is_some() && records[1].value.is_none(), "{key}");
    for name in ["content-type", "schema", "schema-hash"] {
        assert!(records[0].headers.contains_key(name), "{name}");
        assert!(!records[1].headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn text_key_may_need_escapes() {
    let (publisher, topic) = ready_with_record(ORDERS, |setup| setup).await;
    let keys = [
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("two words ", "two%20words%20"),
        ("Grüße", "Gr%C3%BC%c3%9fe"),
        ("a+b", "a+b"),
        ("?x=1#y", "%3Fx=1%23y"),
        ("%2F", "%252F"),
        ("\"\\\n", "%22%5C%0A"),
        ("C-1", "%43-1"),
    ];
    let orders: Vec<_> = keys.iter().map(|(key, _)| order(key)).collect();
    assert_eq!(publisher.send(&orders).await.0, 200);
    for (_, escaped) in keys {
        assert_eq!(erase(&publisher, escaped).await.0, 204, "{escaped}");
    }
    for (key, _) in keys {
        assert_written_and_erased(&topic, key).await;
    }
    assert_not_a_key(&publisher, "%20", "blank").await;
    assert_not_a_key(&publisher, "a%00", "NUL").await;
    assert_not_a_key(&publisher, "a%FF", "not valid UTF-8 from byte 1 on").await;
    assert_not_a_key(&publisher, &"%C3%BC".repeat(513), "longer than 512 characters").await;
    assert_eq!(
        erase(&publisher, "a/b").await.0,
        404,
        "a slash separates segments"
    );
    assert_eq!(topic.read().await.len(), 2 * keys.len());
}

#[tokio::test]
async fn integer_key_is_its_shortest_text() {
    let (publisher, topic) = ready_with_record(READINGS, |setup| setup).await;
    let reading = |meter: Value| json!({"meter": meter, "value": 0.5});
    let readings = [reading(json!(7)), reading(json!("-2147483648"))];
    assert_eq!(publisher.send(&readings).await.0, 200);
    for (meter, reason) in [
        (json!("007"), "shortest form"),
        (json!("-0"), "shortest form"),
        (json!("7.0"), "not an integer"),
        (json!("7e0"), "not an integer"),
        (json!(7.0), "not an integer"),
        (json!(2_147_483_648_i64), "outside the range of int32"),
    ] {
        let (status, body) = publisher.send(&[reading(meter.clone())]).await;
        assert_eq!(
            (status, &body["errors"][0]["field"]),
            (422, &json!("meter")),
            "{meter}"
        );
        let found = body["errors"][0]["reason"].as_str().unwrap();
        assert!(found.contains(reason), "{meter}: {found}");
    }
    let line = publisher.post("application/x-ndjson", "{\"meter\":007,\"value\":0.5}");
    let (status, body) = status_and_body(line).await;
    assert_eq!((status, &body["errors"][0]["field"]), (422, &Value::Null));
    assert!(
        body["errors"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("not valid JSON")
    );

    for (escaped, reason) in [
        ("007", "shortest form"),
        ("-0", "shortest form"),
        ("7.0", "not an integer"),
        ("7e0", "not an integer"),
        ("+7", "not an integer"),
        ("%207", "not an integer"),
        ("seven", "not an integer"),
        ("2147483648", "outside the range of int32"),
    ] {
        assert_not_a_key(&publisher, escaped, reason).await;
    }
    for key in ["7", "-2147483648"] {
        assert_eq!(erase(&publisher, key).await.0, 204);
        assert_written_and_erased(&topic, key).await;
    }
    assert_eq!(topic.read().await.len(), 4);
    let request = publisher
        .post("application/json", reading(json!(7)).to_string())
        .header("prefer", "return=representation");
    let (_, body) = status_and_body(request).await;
    assert_eq!(body["records"][0]["id"], "7", "an id is a text in responses");
}

#[tokio::test]
async fn uuid_key_is_written_in_lower_case() {
    let (publisher, topic) = ready().await;
    let id = Uuid::new_v4().to_string();
    let upper = id.to_uppercase();
    assert_eq!(publisher.send(&[user_with("id", json!(upper))]).await.0, 200);
    assert_eq!(erase(&publisher, &upper).await.0, 204);
    assert_written_and_erased(&topic, &id).await;
    assert_not_a_key(&publisher, &Uuid::nil().to_string(), "nil").await;
    assert_not_a_key(&publisher, &id.replace('-', ""), "hyphenated").await;
    assert_not_a_key(&publisher, "%FF", "UTF-8").await;
}
