//! Records in the topic, and the configuration of the topic.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::Contract;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::broker;
use crate::support::publisher_process::{Publisher, ready, setup, status_and_body};
use crate::support::sample_users::{user, user_with, users};
use crate::support::topic::Topic;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn now_us() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
}

#[tokio::test]
async fn record_has_key_value_headers_and_partition() {
    let (publisher, topic) = ready().await;
    let before = now_us();
    let sent = users(20);
    let request = publisher
        .post("application/json", serde_json::to_vec(&sent).unwrap())
        .header("run-id", "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071")
        .header("run-seq", "100")
        .header("fetched-at-us", "1700000000000000")
        .header("traceparent", TRACE);
    assert_eq!(request.send().await.unwrap().status(), 200);
    let records = topic.read().await;
    assert_eq!(records.len(), 20);
    let contract = Contract::user();
    for record in records {
        let key = contract.parse_key_strict(record.key.as_bytes()).unwrap();
        assert_eq!(record.partition, key.partition(6).unwrap());
        assert!(record.log_append_time);
        let index = sent.iter().position(|user| user["id"] == record.key).unwrap();
        assert_eq!(record.json(), sent[index]);
        let value = record.value.as_ref().unwrap();
        assert!(contract.parse_strict(value).unwrap().is_canonical(value));

        let accepted_at: u128 = record.headers["accepted-at-us"].parse().unwrap();
        assert!((before..=now_us()).contains(&accepted_at));
        assert_eq!(record.headers["content-type"], "application/json");
        assert_eq!(record.headers["schema"], "affluent.users.v1.User");
        assert_eq!(record.headers["schema-hash"], contract.hash());
        assert_eq!(record.headers["run-id"], "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071");
        assert_eq!(record.headers["run-seq"], (100 + index).to_string());
        assert_eq!(record.headers["fetched-at-us"], "1700000000000000");
        assert_eq!(record.headers["traceparent"], TRACE);
        assert_eq!(record.headers.len(), 8);
    }
}

#[tokio::test]
async fn callers_headers_become_record_headers() {
    let (publisher, topic) = ready().await;
    let user = user();
    let send = |name: &'static str, value: &'static str| {
        let request = publisher.post("application/json", user.to_string());
        status_and_body(request.header(name, value))
    };
    assert_eq!(send("Kafka-Header-Source", "crm").await.0, 200);
    let (status, body) = send("Kafka-Header-Schema", "other").await;
    assert_eq!(
        (status, &body["type"]),
        (400, &json!("urn:affluent:problem:bad-header"))
    );
    let records = topic.read().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].headers["source"], "crm");
    assert_eq!(records[0].headers["schema"], "affluent.users.v1.User");
}

#[tokio::test]
async fn records_of_one_user_keep_their_order() {
    let (publisher, topic) = ready().await;
    let first = user_with("username", json!("0"));
    let versions: Vec<_> = (0..50)
        .map(|version| {
            let mut user = first.clone();
            user["username"] = json!(version.to_string());
            user
        })
        .collect();
    for part in versions.chunks(7) {
        assert_eq!(publisher.send(part).await.0, 200);
    }
    let written: Vec<_> = topic
        .read()
        .await
        .iter()
        .map(|record| record.json()["username"].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<_> = (0..50).map(|version| version.to_string()).collect();
    assert_eq!(written, expected);
}

#[tokio::test]
async fn topic_is_created_and_an_existing_one_kept() {
    let brokers = broker::shared().await;
    let topic = Topic::new(&brokers);
    let publisher = Publisher::start(
        &setup(&brokers, &topic.name)
            .set("kafka.partitions", "3")
            .set("kafka.retention", "2h"),
    )
    .await;
    publisher.wait_until_ready().await;
    let settings = broker::topic_settings(&brokers, &topic.name).await;
    assert_eq!(settings["message.timestamp.type"], "LogAppendTime");
    assert_eq!(settings["retention.ms"], "7200000");
    assert_eq!(settings["segment.ms"], "7200000");
    assert_eq!(settings["cleanup.policy"], "delete");
    assert_eq!(settings["min.insync.replicas"], "1");
    assert_eq!(settings["unclean.leader.election.enable"], "false");
    assert_eq!(broker::partitions(&brokers, &topic.name).await, 3);

    let existing = Topic::new(&brokers);
    broker::create_topic(&brokers, &existing.name, &[]).await;
    let publisher = Publisher::start(&setup(&brokers, &existing.name)).await;
    publisher.wait_until_ready().await;
    publisher
        .wait_until("logged", async || {
            let log = publisher.service.last_lines(50);
            log.contains("\"name\":\"partitions\"") && log.contains("\"name\":\"message.timestamp.type\"")
        })
        .await;
    assert_eq!(broker::partitions(&brokers, &existing.name).await, 1);
    let settings = broker::topic_settings(&brokers, &existing.name).await;
    assert_eq!(settings["message.timestamp.type"], "CreateTime");
}

/// A batch above the topic's limit is refused as a whole, with the records of all callers in it.
#[tokio::test]
async fn batches_stay_within_the_topics_limit() {
    let brokers = broker::shared().await;
    let topic = Topic::new(&brokers);
    broker::create_topic(&brokers, &topic.name, &[("max.message.bytes", "2000")]).await;
    let publisher = Publisher::start(&setup(&brokers, &topic.name)).await;
    publisher.wait_until_ready().await;
    assert_eq!(
        publisher.send(&users(200)).await,
        (200, json!({"accepted": 200, "rejected": 0}))
    );

    let mut large = user_with("username", json!("x".repeat(512)));
    for field in ["first_name", "last_name", "address"] {
        large[field] = json!("x".repeat(512));
    }
    let (status, body) = publisher.send(&[user(), large.clone(), user()]).await;
    assert_eq!(
        (status, &body["accepted"], &body["rejected"]),
        (207, &json!(2), &json!(1))
    );
    assert_eq!(body["errors"][0]["index"], 1);
    assert_eq!(
        body["errors"][0]["reason"],
        "is larger than the topic's limit of 2000 bytes"
    );
    assert_eq!(publisher.send(&[large]).await.0, 422);
    assert_eq!(topic.read().await.len(), 202);
    publisher.wait_until_idle().await;
}

/// The limit is read once in 60 probes.
#[tokio::test]
async fn lowered_limit_replaces_the_producer_without_losses() {
    let brokers = broker::shared().await;
    let topic = Topic::new(&brokers);
    broker::create_topic(&brokers, &topic.name, &[]).await;
    let publisher =
        Publisher::start(&setup(&brokers, &topic.name).set("kafka.probe_interval", "100ms")).await;
    publisher.wait_until_ready().await;
    // These need batches above the later limit.
    assert_eq!(publisher.send(&users(200)).await.0, 200);

    broker::alter_topic(&brokers, &topic.name, "max.message.bytes", "2000").await;
    let mut accepted = 200;
    let deadline = Instant::now() + Duration::from_secs(300);
    while !publisher.service.last_lines(50).contains("batches limited by") {
        let (status, body) = publisher.send(&users(1)).await;
        match status {
            200 => accepted += 1,
            503 => assert_eq!(body["type"], "urn:affluent:problem:kafka-unavailable"),
            other => panic!("{other}: {body}"),
        }
        assert!(Instant::now() < deadline, "the limit is not read");
        sleep(Duration::from_millis(50)).await;
    }
    publisher
        .wait_until("writing within the limit", async || {
            publisher.send(&users(200)).await == (200, json!({"accepted": 200, "rejected": 0}))
        })
        .await;
    publisher.wait_until_idle().await;
    assert_eq!(topic.ids().await.len(), accepted + 200);
    assert_eq!(topic.read().await.len(), accepted + 200);
}
