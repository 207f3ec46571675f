//! A log that loses acknowledged records and grows again: other records stand where the lost ones did.

use rdkafka::admin::{NewTopic, TopicReplication};
use testkit::kafka_client::KafkaClient;

use super::broker_outages::{BrokerCluster, LEADER, OTHER_BROKER, create_topic};
use crate::support::test_env::{DEADLINE, eventually, new_users, outgoing};

/// A topic with two replicas, of which one that lacks records may become the leader.
async fn create_with_unclean_election(bootstrap: &str, topic: &str) {
    let replicas: &[&[i32]] = &[&[LEADER, OTHER_BROKER]];
    let topic = NewTopic::new(topic, 1, TopicReplication::Variable(replicas))
        .set("unclean.leader.election.enable", "true")
        .set("min.insync.replicas", "1");
    create_topic(bootstrap, &topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_log_that_grew_again_stops_the_streamer() {
    let cluster = BrokerCluster::without_topic().await;
    let env = &cluster.env;
    create_with_unclean_election(&cluster.bootstrap(), &env.topic).await;
    let streamer = env.start(&cluster.options("truncated")).await;
    env.write(&new_users(10)).await;
    env.wait_for_current_ends().await;

    cluster.kill_broker(OTHER_BROKER).await;
    cluster.wait_until_fenced(OTHER_BROKER).await;
    env.write(&new_users(10)).await;
    env.wait_for_current_ends().await;
    cluster.kill_broker(LEADER).await;
    cluster.restart_broker(OTHER_BROKER).await;
    eventually("the replica without the last records leads", async || {
        let leaders = env
            .kafka
            .leaders(&env.topic)
            .await
            .map_err(|error| error.to_string())?;
        match leaders.get(&0) {
            Some(&OTHER_BROKER) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // More than were lost, so that the checkpoint's offset exists again. The new leader does not know the old producer.
    let kafka = KafkaClient::new(cluster.bootstrap()).unwrap();
    let records: Vec<_> = new_users(15)
        .into_iter()
        .map(|(id, name)| outgoing(id, name))
        .collect();
    kafka.write(&env.topic, &records).await.unwrap();

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
