//! A log that loses acknowledged records and grows again: other records stand where the lost ones did.

use rdkafka::ClientConfig;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use testkit::kafka_client::KafkaClient;
use testkit::service::Service;

use super::broker_outages::{BrokerCluster, LEADER, OTHER_BROKER, create_topic};
use crate::support::test_env::{DEADLINE, eventually, new_users, outgoing, record};

/// A topic with two replicas, of which one that lacks records may become the leader.
async fn create_with_unclean_election(bootstrap: &str, topic: &str) {
    let replicas: &[&[i32]] = &[&[LEADER, OTHER_BROKER]];
    let topic = NewTopic::new(topic, 1, TopicReplication::Variable(replicas))
        .set("unclean.leader.election.enable", "true")
        .set("min.insync.replicas", "1");
    create_topic(bootstrap, &topic).await;
}

/// A topic with ten records on both replicas.
async fn cluster_with_records() -> BrokerCluster {
    let cluster = BrokerCluster::without_topic().await;
    create_with_unclean_election(&cluster.bootstrap(), &cluster.env.topic).await;
    cluster.env.write(&new_users(10)).await;
    cluster
}

/// The second replica lacks the records that are written from now on.
async fn kill_second_replica(cluster: &BrokerCluster) {
    cluster.kill_broker(OTHER_BROKER).await;
    cluster.wait_until_fenced(OTHER_BROKER).await;
}

/// Makes the replica that lags the leader. It gets 15 records: more than it lacks, so that the checkpoint's offset exists
/// again.
async fn truncate_and_grow(cluster: &BrokerCluster) {
    let topic = &cluster.env.topic;
    cluster.kill_broker(LEADER).await;
    cluster.restart_broker(OTHER_BROKER).await;
    eventually("the replica without the last records leads", async || {
        let leaders = cluster.env.kafka.leaders(topic).await;
        match leaders.map_err(|error| error.to_string())?.get(&0) {
            Some(&OTHER_BROKER) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // The new leader does not know the old producer.
    let kafka = KafkaClient::new(cluster.bootstrap()).unwrap();
    let records: Vec<_> = new_users(15)
        .into_iter()
        .map(|(id, name)| outgoing(id, name))
        .collect();
    kafka.write(topic, &records).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_log_that_grew_again_stops_the_streamer() {
    let cluster = cluster_with_records().await;
    let env = &cluster.env;
    kill_second_replica(&cluster).await;
    let streamer = env.start(&cluster.options("truncated")).await;
    env.write(&new_users(10)).await;
    env.wait_for_current_ends().await;
    truncate_and_grow(&cluster).await;

    assert_eq!(streamer.wait(DEADLINE).await.unwrap(), Some(78));
    let log = streamer.last_lines(5);
    assert!(log.contains("offset 20") && log.contains("truncated"), "{log}");

    let earliest = cluster
        .options("earliest")
        .set("checkpoint.on_out_of_range", "earliest");
    let _streamer = env.start(&earliest).await;
    env.wait_for_current_ends().await;
    let users = env.users().await;
    let log = env.kafka.read(&env.topic).await.unwrap();
    assert_eq!(log.len(), 25);
    for record in log {
        let id = std::str::from_utf8(record.key.as_deref().unwrap()).unwrap();
        assert!(
            users.contains_key(&id.parse().unwrap()),
            "offset {}",
            record.offset
        );
    }
}

/// The end behind a marker has no record before it, and no record's leader epoch.
#[tokio::test(flavor = "multi_thread")]
async fn truncated_log_behind_a_marker_stops_the_next_streamer() {
    let cluster = cluster_with_records().await;
    let env = &cluster.env;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap())
        .set("transactional.id", &env.topic)
        .create()
        .unwrap();
    producer.init_transactions(DEADLINE).unwrap();
    kill_second_replica(&cluster).await;
    let mut streamer = env.start(&cluster.options("before")).await;
    producer.begin_transaction().unwrap();
    for (id, name) in new_users(10) {
        let (key, value) = (id.to_string(), record(id, name));
        let record = BaseRecord::to(&env.topic).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.commit_transaction(DEADLINE).unwrap();
    eventually(
        "the checkpoint is behind the records and the marker",
        async || match env.checkpoint_sum().await {
            21 => Ok(()),
            other => Err(other.to_string()),
        },
    )
    .await;
    assert_eq!(streamer.terminate(DEADLINE).await.unwrap(), Some(0));
    truncate_and_grow(&cluster).await;

    let next = Service::start(&cluster.options("after")).unwrap();
    assert_eq!(next.wait(DEADLINE).await.unwrap(), Some(78));
    let log = next.last_lines(5);
    assert!(log.contains("offset 21") && log.contains("truncated"), "{log}");
}
