//! One Kafka and one Cassandra cluster, which end with this process.

use futures::TryFutureExt as _;
use futures::future::{BoxFuture, try_join};

use super::pool::Access;
use super::{CassandraCluster, CassandraOptions, KafkaCluster, KafkaOptions, ServerError};

/// Options of both clusters. The default is one node of each.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// Kafka's options.
    pub kafka: KafkaOptions,
    /// Cassandra's options.
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
    /// Starts both at the same time. When one fails, the other is ended.
    pub fn start(options: &StackOptions) -> BoxFuture<'_, Result<Self, ServerError>> {
        let kafka = KafkaCluster::start(&options.kafka);
        let cassandra = CassandraCluster::start(&options.cassandra);
        Box::pin(try_join(kafka, cassandra).map_ok(|(kafka, cassandra)| Self { kafka, cassandra }))
    }

    /// The servers that all tests of a run share; see [`pool`](super::pool).
    ///
    /// # Errors
    /// When either fails.
    pub async fn shared() -> Result<Self, ServerError> {
        let StackOptions { kafka, cassandra } = StackOptions::default();
        let kafka = KafkaCluster::lease(&kafka, Access::Shared);
        let cassandra = CassandraCluster::lease(&cassandra, Access::Shared);
        let (kafka, cassandra) = try_join(kafka, cassandra).await?;
        Ok(Self { kafka, cassandra })
    }
}
