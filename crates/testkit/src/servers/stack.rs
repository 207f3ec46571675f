//! Kafka and Cassandra together, tied to this process.

use futures::future::try_join;

use super::{CassandraCluster, CassandraOptions, KafkaCluster, KafkaOptions, ServerError};

/// How both are started; the default is one node of each.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// Kafka's part.
    pub kafka: KafkaOptions,
    /// Cassandra's part.
    pub cassandra: CassandraOptions,
}

/// Both clusters, running.
#[derive(Debug)]
pub struct Stack {
    /// Kafka.
    pub kafka: KafkaCluster,
    /// Cassandra.
    pub cassandra: CassandraCluster,
}

impl Stack {
    /// Starts both at the same time.
    ///
    /// # Errors
    /// When either fails; the other is ended then.
    pub async fn start(options: &StackOptions) -> Result<Self, ServerError> {
        let kafka = KafkaCluster::start(&options.kafka);
        let cassandra = CassandraCluster::start(&options.cassandra);
        let (kafka, cassandra) = try_join(kafka, cassandra).await?;
        Ok(Self { kafka, cassandra })
    }

    /// The servers that all tests of a run share; see [`pool`](super::pool).
    ///
    /// # Errors
    /// When either fails.
    pub async fn shared() -> Result<Self, ServerError> {
        let options = CassandraOptions::default();
        let (kafka, cassandra) = try_join(KafkaCluster::shared(), CassandraCluster::shared(&options)).await?;
        Ok(Self { kafka, cassandra })
    }
}
