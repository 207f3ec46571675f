//! Kafka and Cassandra from Maven artifacts: one to three Kafka nodes and one to seven Cassandra nodes on loopback.
//!
//! [`KafkaCluster`] and [`CassandraCluster`] start their nodes, wait until they serve, and end them on drop. A [`Node`]
//! can be stopped, killed, frozen and started again on the same data and ports. A [`Stack`] is one cluster of each.
//! Clients are in `kafka_client` and `cassandra_client`.

mod artifacts;
mod cassandra;
mod detached;
mod error;
mod folder;
pub mod jvm;
mod kafka;
mod node;
pub mod pool;
mod pool_server;
pub mod ports;
mod probe;
pub mod secured;
mod stack;
mod stack_shape;
mod version;

pub use artifacts::{ArtifactError, Software, are_fetched, jars};
pub use cassandra::{CassandraCluster, CassandraOptions, MAX_VALUE_SIZE, Nodetool};
pub use detached::{DetachedStack, NodeStatus, StackStatus};
pub use error::ServerError;
pub use kafka::{AclOperation, KafkaCluster, KafkaOptions, KafkaResource, PLAIN_USER};
pub use node::Node;
pub use pool_server::Pool;
pub use stack::{Stack, StackOptions};
pub use stack_shape::StackShape;
