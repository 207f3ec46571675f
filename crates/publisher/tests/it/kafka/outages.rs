//! Kafka frozen, killed, started late, or without the topic: responses match the topic, and the publisher recovers.

use std::time::Duration;

use serde_json::json;
use testkit::servers::pool::Access;
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::workspace;
use tokio::time::{Instant, timeout};

use crate::support::broker;
use crate::support::load::Load;
use crate::support::publisher_process::{Publisher, erase, read_response, setup, status_and_body};
use crate::support::sample_users::{ids, user, users};
use crate::support::topic::Topic;

async fn on_own_kafka() -> (testkit::servers::KafkaCluster, Publisher, Topic) {
    let kafka = broker::own().await;
    let topic = Topic::new(&kafka.bootstrap());
    let publisher = Publisher::start(&setup(&topic.brokers, &topic.name)).await;
    publisher.wait_until_ready().await;
    (kafka, publisher, topic)
}

async fn wait_until_unready(publisher: &Publisher) {
    publisher
        .wait_until("unready", async || {
            let (status, body) = publisher.readiness().await;
            let dependency = &body["dependencies"][0];
            status == 503 && dependency["name"] == "kafka" && dependency["ready"] == false
        })
        .await;
}

/// Waits for 20 more responses with `status`.
async fn wait_for_more(publisher: &Publisher, load: &Load, status: u16) {
    let before = load.count(status);
    publisher
        .wait_until("responding with the status", async || {
            load.count(status) > before + 20
        })
        .await;
}

#[tokio::test]
async fn frozen_kafka_is_504_then_503_then_recovers() {
    let (kafka, publisher, topic) = on_own_kafka().await;
    let mut load = Load::start(&publisher, 4);
    wait_for_more(&publisher, &load, 200).await;
    kafka.node(0).unwrap().freeze().await.unwrap();
    publisher
        .wait_until("responding 504", async || load.count(504) > 0)
        .await;
    wait_until_unready(&publisher).await;
    wait_for_more(&publisher, &load, 503).await;
    kafka.node(0).unwrap().thaw().unwrap();
    publisher.wait_until_ready().await;
    wait_for_more(&publisher, &load, 200).await;
    load.stop().await;
    load.assert_responses_match_topic(&topic).await;
    publisher.wait_until_idle().await;
    assert!(publisher.metric("records_total{outcome=\"unknown\"}").await >= 20.0);
}

/// Invariant `ready_after_recovery`. A fenced broker returns metadata without brokers. librdkafka then forgets all
/// brokers, until its bootstrap servers are added again. The broker of this test is fenced before each heartbeat.
#[tokio::test]
async fn publisher_recovers_from_metadata_without_brokers() {
    let kafka = KafkaCluster::lease(&KafkaOptions::flapping(), Access::Exclusive)
        .await
        .unwrap();
    let topic = Topic::new(&kafka.bootstrap());
    let publisher = Publisher::start(&setup(&topic.brokers, &topic.name)).await;
    let recoveries = async {
        let recoveries = if workspace::is_full_test_run() { 6 } else { 2 };
        for _ in 0..recoveries {
            publisher.wait_until_ready().await;
            wait_until_unready(&publisher).await;
        }
    };
    timeout(Duration::from_secs(180), recoveries).await.unwrap();
}

#[tokio::test]
async fn unacknowledged_tombstone_is_504() {
    let (kafka, publisher, topic) = on_own_kafka().await;
    let known = users(1);
    assert_eq!(publisher.send(&known).await.0, 200);
    kafka.node(0).unwrap().freeze().await.unwrap();
    let (status, body) = erase(&publisher, known[0]["id"].as_str().unwrap()).await;
    assert_eq!(
        (status, &body["type"], &body["unknown"]),
        (504, &json!("urn:affluent:problem:outcome-unknown"), &json!(1))
    );
    kafka.node(0).unwrap().thaw().unwrap();
    publisher.wait_until_ready().await;
    publisher.wait_until_idle().await;
    assert_eq!(
        topic
            .read()
            .await
            .iter()
            .filter(|record| record.value.is_some())
            .count(),
        1
    );
}

#[tokio::test]
async fn killed_kafka_is_503_until_it_restarts() {
    let (kafka, publisher, topic) = on_own_kafka().await;
    let mut load = Load::start(&publisher, 4);
    wait_for_more(&publisher, &load, 200).await;
    kafka.node(0).unwrap().kill().await.unwrap();
    wait_until_unready(&publisher).await;
    assert_eq!(publisher.metric("kafka_up").await, 0.0);
    wait_for_more(&publisher, &load, 503).await;
    kafka.node(0).unwrap().start().await.unwrap();
    publisher.wait_until_ready().await;
    wait_for_more(&publisher, &load, 200).await;
    load.stop().await;
    load.assert_responses_match_topic(&topic).await;
    publisher.wait_until_idle().await;
}

#[tokio::test]
async fn publisher_waits_for_late_kafka_and_deleted_topic() {
    let kafka = broker::own().await;
    kafka.node(0).unwrap().stop().await.unwrap();
    let topic = Topic::new(&kafka.bootstrap());
    let publisher = Publisher::start(&setup(&topic.brokers, &topic.name)).await;
    assert_eq!(publisher.send(&users(1)).await.0, 503);
    kafka.node(0).unwrap().start().await.unwrap();
    publisher.wait_until_ready().await;
    assert_eq!(publisher.send(&users(3)).await.0, 200);
    assert_eq!(topic.read().await.len(), 3);

    broker::delete_topic(&topic.brokers, &topic.name).await;
    wait_until_unready(&publisher).await;
    assert_eq!(publisher.metric("kafka_up").await, 0.0);
    publisher.wait_until_ready().await;
    publisher
        .wait_until("accepting records", async || {
            publisher.send(&users(1)).await.0 == 200
        })
        .await;
}

#[tokio::test]
async fn overload_is_a_fast_503_without_writes() {
    let kafka = broker::own().await;
    let topic = Topic::new(&kafka.bootstrap());
    let publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            .set("limits.max_in_flight_records", "10")
            .set("limits.max_records", "10")
            .set("limits.max_in_flight_bytes", "18kB")
            .set("limits.max_body", "6kB")
            .set("limits.max_record", "4kB")
            // The probe must not time out before the limits are reached.
            .set("kafka.probe_timeout", "30s"),
    )
    .await;
    publisher.wait_until_ready().await;
    kafka.node(0).unwrap().freeze().await.unwrap();
    let first = users(8);
    let rejected_requests = async {
        publisher
            .wait_until("full", async || {
                publisher.metric("records_in_flight").await == 8.0
            })
            .await;
        let mut rejected = Vec::new();
        for count in [3, 10] {
            let records = users(count);
            let request = publisher.post("application/json", serde_json::to_vec(&records).unwrap());
            let started = tokio::time::Instant::now();
            let response = request.send().await.unwrap();
            assert!(started.elapsed().as_millis() < 500);
            let retry_after = response.headers()["retry-after"].to_str().unwrap();
            assert!(["1", "2"].contains(&retry_after), "{retry_after}");
            let (status, body) = read_response(response).await;
            assert_eq!(
                (status, &body["type"]),
                (503, &json!("urn:affluent:problem:overloaded"))
            );
            rejected.push(records);
        }
        kafka.node(0).unwrap().thaw().unwrap();
        rejected
    };
    let (response, _) = tokio::join!(publisher.send(&first), rejected_requests);
    assert_eq!(response.0, 200, "the first request was accepted and completes");
    assert_eq!(topic.ids().await, ids(&first).into_iter().collect());
    assert_eq!(publisher.send(&users(8)).await.0, 200);
}

/// Low limits and many callers: the limits are reached repeatedly, also in the middle of other requests.
#[tokio::test]
async fn overload_never_makes_an_outcome_unknown() {
    let topic = Topic::new(&broker::shared().await);
    let publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            .set("limits.max_in_flight_records", "50")
            .set("limits.max_records", "20"),
    )
    .await;
    publisher.wait_until_ready().await;
    let mut load = Load::start(&publisher, 16);
    publisher
        .wait_until("overloaded and accepting", async || {
            load.count(503) > 100 && load.count(200) > 100
        })
        .await;
    load.stop().await;
    assert_eq!(
        load.count(504),
        0,
        "a request is rejected before its first record is queued"
    );
    load.assert_responses_match_topic(&topic).await;
    publisher.wait_until_idle().await;
}

/// The producer has dropped the records before the 504, so they are not written after the broker restarts.
#[tokio::test]
async fn nothing_is_written_after_a_504() {
    let kafka = broker::own().await;
    let topic = Topic::new(&kafka.bootstrap());
    let publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            // Long enough to accept requests while the broker is down.
            .set("kafka.probe_interval", "30s"),
    )
    .await;
    publisher.wait_until_ready().await;
    let known = users(3);
    assert_eq!(publisher.send(&known).await.0, 200);
    kafka.node(0).unwrap().kill().await.unwrap();
    let (status, body) = publisher.send(&users(4)).await;
    assert_eq!((status, &body["unknown"]), (504, &json!(4)), "{body}");
    kafka.node(0).unwrap().start().await.unwrap();
    let later = users(2);
    publisher
        .wait_until("writing again", async || publisher.send(&later).await.0 == 200)
        .await;
    publisher.wait_until_idle().await;
    let expected = ids(&[known, later].concat());
    assert_eq!(topic.ids().await, expected.into_iter().collect());
}

#[tokio::test]
async fn topic_deleted_under_load_is_created_again() {
    let (_kafka, publisher, topic) = on_own_kafka().await;
    let mut load = Load::start(&publisher, 4);
    wait_for_more(&publisher, &load, 200).await;
    broker::delete_topic(&topic.brokers, &topic.name).await;
    // The topic may be created again before any request fails.
    publisher
        .wait_until("created again", async || {
            publisher.service.last_lines(50).matches("topic created").count() == 2
        })
        .await;
    publisher.wait_until_ready().await;
    wait_for_more(&publisher, &load, 200).await;
    load.stop().await;
    publisher.wait_until_idle().await;
    load.assert_only_statuses(&[200, 207, 503, 504]);
    for status in [503, 504] {
        let count = load.count(status);
        if count > 0 {
            let metric = format!("requests_total{{status=\"{status}\"}}");
            assert_eq!(publisher.metric(&metric).await, count as f64, "{status}");
        }
    }
    let unknown = publisher.metric("records_total{outcome=\"unknown\"}").await;
    assert_eq!(unknown > 0.0, load.count(504) > 0);
}

#[tokio::test]
async fn request_of_a_disconnected_caller_completes() {
    let (kafka, publisher, topic) = on_own_kafka().await;
    kafka.node(0).unwrap().freeze().await.unwrap();
    let body = user().to_string();
    let request = tokio::spawn(status_and_body(publisher.post("application/json", body)));
    publisher
        .wait_until("in flight", async || {
            publisher.metric("records_in_flight").await == 1.0
        })
        .await;
    request.abort();
    publisher
        .wait_until("disconnected", async || {
            publisher.metric("requests_in_flight").await == 0.0
        })
        .await;
    assert_eq!(
        publisher.metric("requests_total{status=\"disconnected\"}").await,
        1.0
    );
    kafka.node(0).unwrap().thaw().unwrap();
    publisher.wait_until_idle().await;
    assert_eq!(publisher.metric("records_total{outcome=\"accepted\"}").await, 1.0);
    assert_eq!(topic.read().await.len(), 1);
}

/// A broker may advertise an address that the publisher can't reach, although its bootstrap address responds.
#[tokio::test]
async fn unreachable_advertised_address_is_503_at_once() {
    let options = KafkaOptions::unusual();
    let kafka = KafkaCluster::lease(&options, Access::Shared).await.unwrap();
    let topic = Topic::new(&kafka.second_bootstrap());
    kafka.create_topic(&topic.name, 3).await.unwrap();
    let publisher = Publisher::start(&setup(&topic.brokers, &topic.name)).await;
    let started = Instant::now();
    publisher
        .wait_until("naming the address", async || {
            let (status, body) = publisher.readiness().await;
            status == 503 && body.to_string().contains(&KafkaOptions::UNREACHABLE.to_string())
        })
        .await;
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "{:?}",
        started.elapsed()
    );
    while started.elapsed() < Duration::from_secs(10) {
        let (status, body) = publisher.readiness().await;
        assert_eq!(status, 503, "{body}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let posted = Instant::now();
    let (status, body) = publisher.send(&[user()]).await;
    assert_eq!(status, 503, "{body}");
    assert!(
        posted.elapsed() < Duration::from_secs(1),
        "{:?}",
        posted.elapsed()
    );
}

/// A broker that creates topics on request gives them its own defaults: one partition, and `CreateTime`.
#[tokio::test]
async fn deleted_topic_comes_back_as_required_despite_auto_creation() {
    let options = KafkaOptions::unusual();
    let kafka = KafkaCluster::lease(&options, Access::Shared).await.unwrap();
    let topic = Topic::new(&kafka.bootstrap());
    let publisher = Publisher::start(&setup(&topic.brokers, &topic.name).set("kafka.partitions", "3")).await;
    publisher.wait_until_ready().await;
    let mut load = Load::start(&publisher, 4);
    wait_for_more(&publisher, &load, 200).await;
    broker::delete_topic(&topic.brokers, &topic.name).await;
    let created = async || publisher.service.last_lines(50).matches("topic created").count() == 2;
    publisher.wait_until("created again", created).await;
    publisher.wait_until_ready().await;
    wait_for_more(&publisher, &load, 200).await;
    load.stop().await;
    assert_eq!(broker::partitions(&topic.brokers, &topic.name).await, 3);
    let settings = broker::topic_settings(&topic.brokers, &topic.name).await;
    assert_eq!(settings["message.timestamp.type"], "LogAppendTime");
}

/// The other client creates it before the publisher notices that it is gone.
#[tokio::test]
async fn topic_recreated_by_others_is_compared_again() {
    let brokers = broker::shared().await;
    let topic = Topic::new(&brokers);
    let publisher = Publisher::start(&setup(&brokers, &topic.name).set("kafka.probe_interval", "3s")).await;
    publisher.wait_until_ready().await;
    let differences = || publisher.service.last_lines(50).matches("topic differs").count();
    assert_eq!(differences(), 0);
    broker::recreate_topic(&brokers, &topic.name).await;
    publisher.wait_until("logged", async || differences() >= 2).await;
}
