//! Orders: how they are written, and what the responses and documents say of them.

use model::headers::JSON;
use publisher::routes::openapi;
use serde_json::{Value, json};

use crate::support::publisher_process::{Publisher, read_response, ready_with_record, status_and_body};
use crate::support::sample_contracts::{ORDERS, order, order_with, orders};
use crate::support::topic::Topic;

async fn ready() -> (Publisher, Topic) {
    ready_with_record(ORDERS, |setup| setup).await
}

#[tokio::test]
async fn orders_are_written_canonically_under_their_key() {
    let (publisher, topic) = ready().await;
    let written = r#"{"customer_id":"c-2","order_id":"7","total":0.0,"status":"OPEN","email":"a@b","quantities":{"a":1,"b":2},"tags":[],"token":"AAE="}"#;
    let other = r#" {"total": -0e0, "customer_id": "c-2", "quantities": {"b": 2, "a": "1"}, "order_id": 7,
        "status": "OPEN", "email": "a\u0040b", "token": "AAE"} "#;
    let body = format!("[{},{other}]", order("c-1"));
    let request = publisher.post(JSON, body).header("run-seq", "3");
    let (status, body) = status_and_body(request).await;
    assert_eq!((status, body), (200, json!({"accepted": 2, "rejected": 0})));
    let (status, _) = status_and_body(publisher.post("application/x-ndjson", written)).await;
    assert_eq!(status, 200);

    let contract = orders();
    let records = topic.read().await;
    assert_eq!(records.len(), 3);
    for record in &records {
        let key = contract.parse_key_strict(record.key.as_bytes()).unwrap();
        assert_eq!(record.partition, key.partition(6).unwrap());
        assert_eq!(record.headers["schema"], "shop.v1.Order");
        assert_eq!(record.headers["schema-hash"], contract.hash());
        assert_eq!(record.headers["content-type"], "application/json");
        let value = record.value.as_ref().unwrap();
        assert!(contract.parse_strict(value).unwrap().is_canonical(value));
    }
    let of = |key: &'static str| records.iter().filter(move |record| record.key == key);
    let first = of("c-1").next().unwrap();
    assert_eq!(first.json(), order("c-1"));
    assert_eq!(first.headers["run-seq"], "3");
    let twice: Vec<_> = of("c-2").map(|record| record.value.as_deref().unwrap()).collect();
    assert_eq!(twice, [written.as_bytes(); 2]);
}

#[tokio::test]
async fn all_errors_of_a_record_are_reported_in_order() {
    let (publisher, topic) = ready().await;
    let mut bad = order_with("email", json!("secret"));
    bad["nonsense"] = json!("secret");
    bad["order_id"] = json!("007");
    bad["total"] = json!("secret");
    bad["status"] = json!("secret");
    bad["quantities"] = json!({"a": 1, "b": 4_000_000_000_u32});
    bad.as_object_mut().unwrap().remove("token");
    let (status, body) = publisher
        .send(&[order("c-1"), bad, json!({"customer_id": " "})])
        .await;
    assert_eq!(
        (status, &body["accepted"], &body["rejected"]),
        (207, &json!(1), &json!(2))
    );
    let error = &body["errors"][0];
    assert_eq!((&error["index"], &error["id"]), (&json!(1), &json!("c-1")));
    let fields: Vec<_> = error["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["field"])
        .collect();
    assert_eq!(
        fields,
        [
            "nonsense",
            "total",
            "token",
            "order_id",
            "status",
            "email",
            "quantities"
        ]
    );
    let reason = |index: usize| error["errors"][index]["reason"].as_str().unwrap();
    assert_eq!(reason(0), "is not a field of the record");
    assert!(reason(1).starts_with("must be a number"), "{}", reason(1));
    assert_eq!(reason(2), "is missing");
    assert!(reason(3).contains("shortest form"), "{}", reason(3));
    assert_eq!(reason(4), "is not a name of the enum");
    assert!(
        reason(6).starts_with("element 1 is outside the range"),
        "{}",
        reason(6)
    );
    assert_eq!(
        (&error["field"], &error["reason"]),
        (&error["errors"][0]["field"], &json!(reason(0)))
    );
    assert!(!body.to_string().contains("secret"));

    let error = &body["errors"][1];
    assert_eq!(
        (&error["id"], &error["field"]),
        (&Value::Null, &json!("order_id"))
    );
    let errors = error["errors"].as_array().unwrap();
    assert_eq!(
        errors.last().unwrap(),
        &json!({"field": "customer_id", "reason": "is blank"})
    );
    assert_eq!(errors.len(), 6);
    assert_eq!(
        publisher
            .metric("records_rejected_total{reason=\"unknown_field\"}")
            .await,
        1.0
    );
    assert_eq!(
        publisher
            .metric("records_rejected_total{reason=\"missing\"}")
            .await,
        1.0
    );
    assert_eq!(topic.read().await.len(), 1);
}

#[tokio::test]
async fn at_most_eight_errors_of_a_record_are_reported() {
    let (publisher, _) = ready().await;
    let mut bad = order("c-1");
    for index in 0..20 {
        bad[format!("unknown{index}")] = json!(0);
    }
    let (status, body) = publisher.send(&[bad]).await;
    assert_eq!(status, 422);
    assert_eq!(body["errors"][0]["errors"].as_array().unwrap().len(), 8);
}

/// 100 records cost 70,000 bytes; their errors would take twice that.
#[tokio::test]
async fn errors_above_the_memory_limit_are_cut_to_the_first() {
    let (publisher, topic) = ready_with_record(ORDERS, |setup| {
        setup
            .set("limits.max_record", "16KiB")
            .set("limits.max_body", "128KiB")
            .set("limits.max_records", "100")
            .set("limits.max_in_flight_bytes", "204KiB")
    })
    .await;
    let name = |index: usize| format!("{index}{}", "x".repeat(60));
    let bad: Value = (0..8).map(|index| (name(index), json!(0))).collect();
    let records = vec![bad; 100];
    let (status, body) = publisher.send(&records).await;
    assert_eq!(status, 422);
    let errors = body["errors"].as_array().unwrap();
    let counts: Vec<_> = errors
        .iter()
        .map(|error| error["errors"].as_array().unwrap().len())
        .collect();
    assert_eq!((counts.len(), counts[0], counts[99]), (100, 8, 1));
    assert!(counts.is_sorted_by(|before, after| before >= after), "{counts:?}");
    for (index, error) in errors.iter().enumerate() {
        assert_eq!(
            (&error["index"], &error["field"]),
            (&json!(index), &json!(name(0)))
        );
        assert_eq!(error["reason"], error["errors"][0]["reason"]);
    }
    publisher.wait_until_idle().await;
    assert!(topic.read().await.is_empty());
}

#[tokio::test]
async fn preference_and_idempotency_key_work_for_orders() {
    let (publisher, topic) = ready().await;
    let records = [order("c-1"), order_with("total", json!("1e999")), order("c-2")];
    let request = || {
        publisher
            .post(JSON, serde_json::to_vec(&records).unwrap())
            .header("prefer", "return=representation")
            .header("idempotency-key", "k")
    };
    let (status, body) = status_and_body(request()).await;
    assert_eq!(status, 207);
    let written = topic.read().await;
    assert_eq!(written.len(), 2);
    for (metadata, index) in body["records"].as_array().unwrap().iter().zip([0, 2]) {
        let key = &records[index]["customer_id"];
        let record = written.iter().find(|record| record.key == *key).unwrap();
        assert_eq!(
            *metadata,
            json!({"index": index, "id": key, "partition": record.partition, "offset": record.offset})
        );
    }
    let again = request().send().await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(read_response(again).await, (207, body));
    assert_eq!(topic.read().await.len(), 2);
}

#[tokio::test]
async fn documents_describe_the_contract() {
    let (publisher, _) = ready().await;
    let get = async |path: &str| {
        let request = publisher.client.get(format!("{}{path}", publisher.url));
        status_and_body(request).await
    };
    assert_eq!(get("/openapi.json").await, (200, openapi(&orders())));
    let (status, schema) = get("/v1/schema").await;
    assert_eq!((status, &schema["title"]), (200, &json!("Order")));
    assert_eq!(schema, orders().json_schema());
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap();
    for record in [
        order("c-1"),
        order_with("order_id", json!(7)),
        order_with("order_id", json!("7.0")),
        order_with("total", json!(true)),
        order_with("status", json!("LOST")),
        order_with("quantities", json!({"a": "x"})),
        order_with("quantities", json!({"": 1})),
        order_with("tags", json!([null])),
        order_with("tags", json!([])),
        order_with("token", json!("!")),
        order_with("gift", json!(0)),
        order_with("gifts", json!(true)),
        json!({}),
    ] {
        let (status, _) = publisher.send(std::slice::from_ref(&record)).await;
        assert_eq!(validator.is_valid(&record), status == 200, "{status}: {record}");
    }
    assert_eq!(get("/v1/users").await.0, 404, "it serves one contract");
}
