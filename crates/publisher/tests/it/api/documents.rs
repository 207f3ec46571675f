//! The documents that describe the API, checked against its behavior.

use model::Contract;
use publisher::routes::openapi;
use serde_json::{Value, json};

use crate::support::publisher_process::{Publisher, erase, ready, status_and_body};
use crate::support::sample_users::{user, user_with, users};

async fn get(publisher: &Publisher, path: &str) -> Value {
    let (status, body) = status_and_body(publisher.client.get(format!("{}{path}", publisher.url))).await;
    assert_eq!(status, 200);
    body
}

#[tokio::test]
async fn schema_agrees_with_the_validation() {
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

/// `status_and_body` checks each response against the document, here and in every other test.
#[tokio::test]
async fn every_response_matches_the_openapi_document() {
    let (publisher, _) = ready().await;
    assert_eq!(get(&publisher, "/openapi.json").await, openapi(&Contract::user()));
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
        assert_eq!(status_and_body(request).await.0, status);
    }
    for (id, status) in [("0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071", 204), ("7", 400)] {
        assert_eq!(erase(&publisher, id).await.0, status);
    }
}

#[tokio::test]
async fn representation_lists_partition_and_offset() {
    let (publisher, topic) = ready().await;
    let records = [user(), user_with("gender", json!("")), user()];
    let request = publisher
        .post("application/json", serde_json::to_vec(&records).unwrap())
        .header("prefer", "respond-async, return=representation");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["preference-applied"], "return=representation");
    let body: Value = response.json().await.unwrap();
    let listed = body["records"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let written = topic.read().await;
    for (metadata, index) in listed.iter().zip([0, 2]) {
        let record = written
            .iter()
            .find(|record| record.key == records[index]["id"])
            .unwrap();
        let expected = json!({
            "index": index, "id": record.key, "partition": record.partition, "offset": record.offset,
        });
        assert_eq!(*metadata, expected);
    }
}
