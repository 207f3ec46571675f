//! Brokers without topic ids, and their upgrade, on a mock cluster of librdkafka: no recent broker reports none.

use rdkafka::ClientContext;
use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaApiKey;
use testkit::kafka_client::KafkaClient;

use crate::support::test_env::{TestEnv, new_users};
use crate::support::traffic::metric;

/// The first version of the metadata response with topic ids is 10.
const WITHOUT_IDS: i16 = 9;
const WITH_IDS: i16 = 12;

/// Replaces the broker by one whose metadata has at most this version.
fn upgrade<C: ClientContext>(cluster: &MockCluster<'_, C>, version: i16) {
    cluster.broker_down(1).unwrap();
    cluster
        .apiversion(RDKafkaApiKey::Metadata, Some(0), Some(version))
        .unwrap();
    cluster.broker_up(1).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_ids_that_appear_and_vanish_restart_nothing() {
    let cluster = MockCluster::new(1).unwrap();
    upgrade(&cluster, WITHOUT_IDS);
    let mut env = TestEnv::without_topic("ids").await;
    for topic in [env.topic.clone(), env.dead_letter_topic()] {
        cluster.create_topic(&topic, 1, 1).unwrap();
    }
    env.kafka = KafkaClient::new(cluster.bootstrap_servers()).unwrap();
    let options = env
        .options()
        .set("kafka.brokers", cluster.bootstrap_servers())
        .set("kafka.probe_interval", "500ms");
    let streamer = env.start(&options).await;
    env.write(&new_users(10)).await;
    env.wait_until_caught_up().await;
    for version in [WITH_IDS, WITHOUT_IDS, WITH_IDS] {
        upgrade(&cluster, version);
        env.write(&new_users(10)).await;
        env.wait_until_caught_up().await;
        // A few probes.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        assert!(
            metric(&streamer, "streamer_restarts_total", "").await < 0.5,
            "{}",
            streamer.last_lines(10)
        );
    }
    let read = metric(&streamer, "streamer_records_total", "").await;
    assert!((read - 40.0).abs() < 0.5, "{read} of 40");
}
