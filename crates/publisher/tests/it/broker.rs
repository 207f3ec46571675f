//! One Kafka for all tests that leave it alone; those that disturb it start their own.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use testkit::servers::{KafkaCluster, KafkaOptions};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::running::DEADLINE;

static SHARED: OnceCell<KafkaCluster> = OnceCell::const_new();

/// The shared one's address.
pub(crate) async fn shared() -> String {
    SHARED.get_or_init(own).await.bootstrap()
}

/// A Kafka for one test alone.
pub(crate) async fn own() -> KafkaCluster {
    KafkaCluster::start(&KafkaOptions::default()).await.unwrap()
}

/// A name that no other test has.
pub(crate) fn fresh_topic() -> String {
    format!("users_{}", Uuid::new_v4().simple())
}

/// Creates a topic of one partition with these settings.
pub(crate) async fn create_topic(bootstrap: &str, name: &str, settings: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    topic.config = settings.to_vec();
    let created = admin(bootstrap)
        .create_topics([&topic], &AdminOptions::new())
        .await
        .unwrap();
    created[0].as_ref().unwrap();
}

/// The settings that a topic has.
pub(crate) async fn topic_settings(bootstrap: &str, name: &str) -> BTreeMap<String, String> {
    let topic = ResourceSpecifier::Topic(name);
    let described = admin(bootstrap)
        .describe_configs([&topic], &AdminOptions::new())
        .await;
    let config = described.unwrap().remove(0).unwrap();
    let entries = config.entries.into_iter();
    entries
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect()
}

/// How many partitions it has.
pub(crate) async fn partitions(bootstrap: &str, name: &str) -> usize {
    let admin = admin(bootstrap);
    let name = name.to_owned();
    let asked = move || admin.inner().fetch_metadata(Some(&name), DEADLINE).unwrap();
    let metadata = tokio::task::spawn_blocking(asked).await.unwrap();
    metadata.topics()[0].partitions().len()
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .unwrap()
}

/// Deletes a topic.
pub(crate) async fn delete_topic(bootstrap: &str, name: &str) {
    let deleted = admin(bootstrap)
        .delete_topics(&[name], &AdminOptions::new())
        .await;
    deleted.unwrap()[0].as_ref().unwrap();
}
