//! A Kafka that most tests share. Tests that freeze or stop a broker start their own.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use testkit::servers::pool::Access;
use testkit::servers::{KafkaCluster, KafkaOptions};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::publisher_process::TIMEOUT;

static SHARED: OnceCell<KafkaCluster> = OnceCell::const_new();

/// The bootstrap address of the shared Kafka.
pub(crate) async fn shared() -> String {
    let kafka = SHARED.get_or_init(async || {
        KafkaCluster::lease(&KafkaOptions::default(), Access::Shared)
            .await
            .unwrap()
    });
    kafka.await.bootstrap()
}

/// Starts a Kafka for one test.
pub(crate) async fn own() -> KafkaCluster {
    KafkaCluster::lease(&KafkaOptions::default(), Access::Exclusive)
        .await
        .unwrap()
}

/// A unique topic name.
pub(crate) fn unique_topic() -> String {
    format!("users_{}", Uuid::new_v4().simple())
}

/// Creates a topic with one partition and these settings.
pub(crate) async fn create_topic(bootstrap: &str, name: &str, settings: &[(&str, &str)]) {
    try_create(bootstrap, name, settings).await.unwrap();
}

/// Replaces a topic by one with the broker's defaults, also if a publisher creates it in between.
pub(crate) async fn recreate_topic(bootstrap: &str, name: &str) {
    loop {
        // A deletion that goes on has no topic to delete, and a name that is not free.
        let deleted = try_delete(bootstrap, name).await;
        assert!(
            matches!(deleted, Ok(()) | Err(RDKafkaErrorCode::UnknownTopicOrPartition)),
            "{deleted:?}"
        );
        match try_create(bootstrap, name, &[]).await {
            Ok(()) => return,
            Err(code) => assert_eq!(code, RDKafkaErrorCode::TopicAlreadyExists),
        }
    }
}

async fn try_create(bootstrap: &str, name: &str, settings: &[(&str, &str)]) -> Result<(), RDKafkaErrorCode> {
    let mut topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    topic.config = settings.to_vec();
    let created = admin(bootstrap)
        .create_topics([&topic], &AdminOptions::new())
        .await
        .unwrap();
    created[0].as_ref().map(drop).map_err(|(_, code)| *code)
}

/// Changes a setting of a topic.
pub(crate) async fn alter_topic(bootstrap: &str, name: &str, setting: &str, value: &str) {
    let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set(setting, value);
    let altered = admin(bootstrap)
        .alter_configs([&change], &AdminOptions::new())
        .await;
    altered.unwrap()[0].as_ref().unwrap();
}

/// The settings of a topic.
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

/// The number of partitions of a topic.
pub(crate) async fn partitions(bootstrap: &str, name: &str) -> usize {
    let admin = admin(bootstrap);
    let name = name.to_owned();
    let request = move || admin.inner().fetch_metadata(Some(&name), TIMEOUT).unwrap();
    let metadata = tokio::task::spawn_blocking(request).await.unwrap();
    metadata.topics()[0].partitions().len()
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .unwrap()
}

/// Deletes a topic, and waits until its name is free.
pub(crate) async fn delete_topic(bootstrap: &str, name: &str) {
    try_delete(bootstrap, name).await.unwrap();
}

async fn try_delete(bootstrap: &str, name: &str) -> Result<(), RDKafkaErrorCode> {
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let deleted = admin(bootstrap).delete_topics(&[name], &options).await.unwrap();
    deleted[0].as_ref().map(drop).map_err(|(_, code)| *code)
}
