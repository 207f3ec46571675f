//! Readiness probes of the servers: one node each, with a time limit, without a driver's retries.

mod cassandra;
mod kafka;

pub(super) use self::cassandra::{CassandraNodeProbe, DEFAULT_SUPERUSER};
pub(super) use self::kafka::{KafkaNodeProbe, admin_client};

/// The readiness probe of a node.
#[derive(Debug)]
pub(super) enum Probe {
    Kafka(KafkaNodeProbe),
    Cassandra(CassandraNodeProbe),
}

impl Probe {
    pub(super) async fn is_ready(&self) -> bool {
        match self {
            Self::Kafka(probe) => probe.is_ready().await,
            Self::Cassandra(probe) => probe.peers().await.is_some(),
        }
    }

    /// Whether the node knows `nodes` nodes, itself included.
    pub(super) async fn knows(&self, nodes: usize) -> bool {
        match self {
            Self::Kafka(probe) => probe.brokers().await.len() >= nodes,
            Self::Cassandra(probe) => {
                let peers = probe.peers().await.and_then(|peers| usize::try_from(peers).ok());
                peers.is_some_and(|peers| peers + 1 == nodes)
            }
        }
    }
}
