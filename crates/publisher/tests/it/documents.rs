//! The documents that describe the API, held against what it does.

use serde_json::{Value, json};

use crate::contract;
use crate::running::{Publisher, answer, erase, ready};
use crate::users::{user, user_with, users};

async fn get(publisher: &Publisher, path: &str) -> Value {
    let (status, body) = answer(publisher.client.get(format!("{}{path}", publisher.url))).await;
    assert_eq!(status, 200);
    body
}

#[tokio::test]
async fn the_schema_agrees_with_the_verdicts() {
    let (publisher, _) = ready().await;
    let response = publisher
        .client
        .get(format!("{}/v1/schema", publisher.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "application/schema+json");
    let schema = get(&publisher, "/v1/schema").await;
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap();
    let mut without_registration = user();
    without_registration
        .as_object_mut()
        .unwrap()
        .remove("registered_date");
    let nil = "00000000-0000-0000-0000-000000000000";
    for record in [
        user(),
        without_registration,
        user_with("first_name", json!("é".repeat(512))),
        user_with("first_name", json!("é".repeat(513))),
        user_with("first_name", json!("\u{a0}\t")),
        user_with("first_name", json!("a\0b")),
        user_with("first_name", json!(3)),
        user_with("first_nam", json!("x")),
        user_with("id", json!(nil)),
        user_with("id", json!("0195d0b17a4c7f3e9b1a2c3d4e5f6071")),
        user_with("email", json!("a@b@c")),
        user_with("email", json!("@b")),
        user_with("dob", json!("yesterday")),
        json!({}),
        json!([]),
    ] {
        let (status, _) = publisher.send(std::slice::from_ref(&record)).await;
        assert_eq!(validator.is_valid(&record), status == 200, "{status}: {record}");
    }
}

/// `answer` holds each against the document, here and in every other test.
#[tokio::test]
async fn every_answer_is_as_the_openapi_document_says() {
    let (publisher, _) = ready().await;
    assert_eq!(get(&publisher, "/openapi.json").await, *contract::DOCUMENT);
    let bad = user_with("gender", json!(""));
    let all = serde_json::to_vec(&users(3)).unwrap();
    let some = serde_json::to_vec(&[user(), bad.clone()]).unwrap();
    let none = bad.to_string().into_bytes();
    for (content_type, body, status) in [
        ("application/json", all, 200),
        ("application/json", some, 207),
        ("application/json", none, 422),
        ("application/json", b"{".to_vec(), 400),
        ("text/plain", b"{".to_vec(), 415),
    ] {
        let request = publisher.post(content_type, body);
        let request = request.header("prefer", "return=representation");
        assert_eq!(answer(request).await.0, status);
    }
    for (id, status) in [("0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071", 204), ("7", 400)] {
        assert_eq!(erase(&publisher, id).await.0, status);
    }
}

#[tokio::test]
async fn who_prefers_it_hears_where_each_record_is() {
    let (publisher, topic) = ready().await;
    let records = [user(), user_with("gender", json!("")), user()];
    let request = publisher
        .post("application/json", serde_json::to_vec(&records).unwrap())
        .header("prefer", "respond-async, return=representation");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["preference-applied"], "return=representation");
    let body: Value = response.json().await.unwrap();
    let places = body["records"].as_array().unwrap();
    assert_eq!(places.len(), 2);
    let written = topic.read().await;
    for (place, index) in places.iter().zip([0, 2]) {
        let record = written
            .iter()
            .find(|record| record.key == records[index]["id"])
            .unwrap();
        let expected = json!({
            "index": index, "id": record.key, "partition": record.partition, "offset": record.offset,
        });
        assert_eq!(*place, expected);
    }
}
