//! Kafka administration as an operator does it, on the internal listener.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Cluster;
use super::shape::ClusterShape;

const TIMEOUT: Duration = Duration::from_secs(30);

impl Cluster {
    pub(crate) fn kafka_admin(&self) -> Result<AdminClient<DefaultClientContext>, KafkaError> {
        let bootstrap = self.stack.kafka.internal_bootstrap();
        ClientConfig::new().set("bootstrap.servers", bootstrap).create()
    }

    /// Creates the topic of a round as the publisher does. Where one replica may acknowledge alone, one that lacks records may
    /// become the leader.
    pub(crate) async fn create_topic(&self, name: &str, partitions: usize) -> Result<(), KafkaError> {
        let replicas = TopicReplication::Fixed(i32::try_from(self.shape.topic_replicas()).unwrap_or(1));
        let in_sync = self.shape.min_in_sync().to_string();
        let unclean = (self.shape == ClusterShape::ThreeBrokers).to_string();
        let topic = NewTopic::new(name, i32::try_from(partitions).unwrap_or(1), replicas)
            .set("message.timestamp.type", "LogAppendTime")
            .set("min.insync.replicas", &in_sync)
            .set("unclean.leader.election.enable", &unclean);
        check(self.kafka_admin()?.create_topics([&topic], &options()).await?)
    }
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT))
}

/// The first error of the topics' results.
pub(crate) fn check(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<(), KafkaError> {
    let mut results = results.into_iter();
    results.try_for_each(|result| result.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
}
