//! A broker that creates topics on request, with its own defaults: one partition, `CreateTime`, seven days.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use testkit::kafka_client::{KafkaClient, ProducerRecord};
use testkit::servers::pool::Access;
use testkit::servers::{KafkaCluster, KafkaOptions};

use crate::support::assignment::wait_for_partitions;
use crate::support::test_env::{DEADLINE, TestEnv, eventually};
use crate::support::traffic::metric;

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .unwrap()
}

async fn delete_topic(brokers: &str, name: &str) {
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
    for result in admin(brokers).delete_topics(&[name], &options).await.unwrap() {
        result.unwrap();
    }
}

/// Returns the configuration of a topic, or why there is none.
async fn settings(brokers: &str, name: &str) -> Result<BTreeMap<String, String>, String> {
    let topic = ResourceSpecifier::Topic(name);
    let described = admin(brokers)
        .describe_configs([&topic], &AdminOptions::new())
        .await;
    let config = described.unwrap().remove(0).map_err(|error| error.to_string())?;
    let entries = config.entries.into_iter();
    let found: BTreeMap<_, _> = entries
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect();
    if found.is_empty() {
        return Err("the topic does not exist".to_owned());
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_topics_come_back_as_required_despite_auto_creation() {
    let options = KafkaOptions::unusual();
    let cluster = KafkaCluster::lease(&options, Access::Shared).await.unwrap();
    let brokers = cluster.bootstrap();
    let mut env = TestEnv::without_topic("defaults").await;
    env.kafka = KafkaClient::new(brokers.clone()).unwrap();
    let options = env
        .options()
        .set("kafka.brokers", &brokers)
        .set("kafka.partitions", "3");
    let streamer = env.start(&options).await;
    let garbage = ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..ProducerRecord::default()
    };
    env.kafka
        .write(&env.topic, std::slice::from_ref(&garbage))
        .await
        .unwrap();
    env.wait_until_caught_up().await;

    // Without its topic the dead letter waits, and no request creates it.
    delete_topic(&brokers, &env.dead_letter_topic()).await;
    env.kafka.write(&env.topic, &[garbage]).await.unwrap();
    eventually("readiness names the dead-letter topic", async || {
        let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        match body.contains("does not acknowledge dead letters") {
            true => Ok(()),
            false => Err(body),
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let found = settings(&brokers, &env.dead_letter_topic()).await;
    assert!(found.is_err(), "{found:?}");

    delete_topic(&brokers, &env.topic).await;
    eventually("the streamer restarts", async || {
        let restarts = metric(&streamer, "streamer_restarts_total", "").await;
        if restarts > 0.5 {
            Ok(())
        } else {
            Err(format!("{restarts}"))
        }
    })
    .await;
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    // The consumer of the first pipeline, which waited for the dead letter, has left the group.
    wait_for_partitions(&streamer, 3.0).await;
    let records = settings(&brokers, &env.topic).await.unwrap();
    assert_eq!(records["message.timestamp.type"], "LogAppendTime");
    let letters = settings(&brokers, &env.dead_letter_topic()).await.unwrap();
    assert_eq!(letters["retention.ms"], "2592000000");
}
