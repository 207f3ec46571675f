//! Kafka frozen, killed, late, or without the topic: no answer lies, and everything goes on by itself.

use std::time::Duration;

use serde_json::json;
use testkit::servers::{KafkaCluster, KafkaOptions};
use tokio::time::timeout;

use crate::broker;
use crate::load::Load;
use crate::running::{Publisher, answer, document, erase, setup};
use crate::topic::Topic;
use crate::users::{ids, user, users};

async fn on_own_kafka() -> (testkit::servers::KafkaCluster, Publisher, Topic) {
    let kafka = broker::own().await;
    let topic = Topic::fresh(&kafka.bootstrap());
    let publisher = setup(&topic.brokers, &topic.name).start().await;
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

/// More requests are answered with `status` than before.
async fn wait_for_more(publisher: &Publisher, load: &Load, status: u16) {
    let before = load.count(status);
    publisher
        .wait_until("answering so", async || load.count(status) > before + 20)
        .await;
}

#[tokio::test]
async fn a_frozen_kafka_is_504_then_503_then_all_is_well_again() {
    let (kafka, publisher, topic) = on_own_kafka().await;
    let mut load = Load::start(&publisher, 4);
    wait_for_more(&publisher, &load, 200).await;
    kafka.node(0).unwrap().freeze().await.unwrap();
    publisher
        .wait_until("in doubt", async || load.count(504) > 0)
        .await;
    wait_until_unready(&publisher).await;
    wait_for_more(&publisher, &load, 503).await;
    kafka.node(0).unwrap().thaw().unwrap();
    publisher.wait_until_ready().await;
    wait_for_more(&publisher, &load, 200).await;
    load.stop().await;
    load.assert_no_answer_lied(&topic).await;
    publisher.wait_until_idle().await;
    assert!(publisher.metric("records_total{outcome=\"unknown\"}").await >= 20.0);
}

/// Law `ready_turns_true`. Fenced, a broker says that there are no brokers, and librdkafka believes it: a client asks nobody any
/// more, unless it is told anew where to ask. This one is fenced before each of its heartbeats.
#[tokio::test]
async fn a_broker_that_says_there_are_none_is_asked_again() {
    let kafka = KafkaCluster::start(&KafkaOptions::fickle()).await.unwrap();
    let topic = Topic::fresh(&kafka.bootstrap());
    let publisher = setup(&topic.brokers, &topic.name).start().await;
    let returns = async {
        for _ in 0..6 {
            publisher.wait_until_ready().await;
            wait_until_unready(&publisher).await;
        }
    };
    timeout(Duration::from_secs(180), returns).await.unwrap();
}

#[tokio::test]
async fn a_tombstone_without_an_answer_from_kafka_is_504_and_unknown() {
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
async fn a_killed_kafka_is_503_until_it_is_back() {
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
    load.assert_no_answer_lied(&topic).await;
    publisher.wait_until_idle().await;
}

#[tokio::test]
async fn a_kafka_that_comes_late_and_a_topic_that_goes_are_waited_for() {
    let kafka = broker::own().await;
    kafka.node(0).unwrap().stop().await.unwrap();
    let topic = Topic::fresh(&kafka.bootstrap());
    let publisher = setup(&topic.brokers, &topic.name).start().await;
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
        .wait_until("taking records", async || {
            publisher.send(&users(1)).await.0 == 200
        })
        .await;
}

#[tokio::test]
async fn a_full_house_is_a_quick_503_of_which_nothing_is_written() {
    let kafka = broker::own().await;
    let topic = Topic::fresh(&kafka.bootstrap());
    let publisher = setup(&topic.brokers, &topic.name)
        .with("LIMITS__MAX_IN_FLIGHT_RECORDS", "10")
        .with("LIMITS__MAX_RECORDS", "10")
        .with("LIMITS__MAX_IN_FLIGHT_BYTES", "13kB")
        .with("LIMITS__MAX_BODY", "6kB")
        .with("LIMITS__MAX_RECORD", "4kB")
        // Long enough for the test to find the house full and Kafka not yet known to be silent.
        .with("KAFKA__PROBE_TIMEOUT", "30s")
        .start()
        .await;
    publisher.wait_until_ready().await;
    kafka.node(0).unwrap().freeze().await.unwrap();
    let first = users(8);
    let crowd = async {
        publisher
            .wait_until("full", async || {
                publisher.metric("records_in_flight").await == 8.0
            })
            .await;
        let mut refused = Vec::new();
        for count in [3, 10] {
            let records = users(count);
            let request = publisher.post("application/json", serde_json::to_vec(&records).unwrap());
            let started = tokio::time::Instant::now();
            let response = request.send().await.unwrap();
            assert!(started.elapsed().as_millis() < 500);
            assert_eq!(response.headers()["retry-after"], "1");
            let (status, body) = document(response).await;
            assert_eq!(
                (status, &body["type"]),
                (503, &json!("urn:affluent:problem:no-room"))
            );
            refused.push(records);
        }
        kafka.node(0).unwrap().thaw().unwrap();
        refused
    };
    let (answer, _) = tokio::join!(publisher.send(&first), crowd);
    assert_eq!(answer.0, 200, "the first one was taken and is not starved");
    assert_eq!(topic.ids().await, ids(&first).into_iter().collect());
    assert_eq!(publisher.send(&users(8)).await.0, 200);
}

/// Small bounds and many callers: the house is full again and again, also in the middle of other requests.
#[tokio::test]
async fn through_a_full_house_every_answer_is_true_and_none_is_in_doubt() {
    let topic = Topic::fresh(&broker::shared().await);
    let publisher = setup(&topic.brokers, &topic.name)
        .with("LIMITS__MAX_IN_FLIGHT_RECORDS", "50")
        .with("LIMITS__MAX_RECORDS", "20")
        .start()
        .await;
    publisher.wait_until_ready().await;
    let mut load = Load::start(&publisher, 16);
    publisher
        .wait_until("full, and served", async || {
            load.count(503) > 100 && load.count(200) > 100
        })
        .await;
    load.stop().await;
    assert_eq!(
        load.count(504),
        0,
        "what does not fit is known before the first record is queued"
    );
    load.assert_no_answer_lied(&topic).await;
    publisher.wait_until_idle().await;
}

/// The producer has given up when the answer comes: a broker that comes back finds nothing to write.
#[tokio::test]
async fn after_a_504_nothing_more_is_written() {
    let kafka = broker::own().await;
    let topic = Topic::fresh(&kafka.bootstrap());
    let publisher = setup(&topic.brokers, &topic.name)
        // Long enough for requests to be taken while the broker is gone.
        .with("KAFKA__PROBE_INTERVAL", "30s")
        .start()
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
async fn a_topic_that_is_deleted_under_load_is_made_anew_and_every_answer_is_counted() {
    let (_kafka, publisher, topic) = on_own_kafka().await;
    let mut load = Load::start(&publisher, 4);
    wait_for_more(&publisher, &load, 200).await;
    broker::delete_topic(&topic.brokers, &topic.name).await;
    // It may be made anew before anybody has to hear of it.
    publisher
        .wait_until("made anew", async || {
            publisher.child.last_lines(50).matches("topic created").count() == 2
        })
        .await;
    publisher.wait_until_ready().await;
    wait_for_more(&publisher, &load, 200).await;
    load.stop().await;
    publisher.wait_until_idle().await;
    load.assert_heard_only(&[200, 207, 503, 504]);
    for status in [503, 504] {
        let heard = load.count(status);
        if heard > 0 {
            let metric = format!("requests_total{{status=\"{status}\"}}");
            assert_eq!(publisher.metric(&metric).await, heard as f64, "{status}");
        }
    }
    let unknown = publisher.metric("records_total{outcome=\"unknown\"}").await;
    assert_eq!(unknown > 0.0, load.count(504) > 0);
}

#[tokio::test]
async fn a_caller_who_leaves_leaves_nothing_half_done() {
    let (kafka, publisher, topic) = on_own_kafka().await;
    kafka.node(0).unwrap().freeze().await.unwrap();
    let body = user().to_string();
    let leaving = tokio::spawn(answer(publisher.post("application/json", body)));
    publisher
        .wait_until("taken", async || {
            publisher.metric("records_in_flight").await == 1.0
        })
        .await;
    leaving.abort();
    publisher
        .wait_until("noticed", async || {
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
