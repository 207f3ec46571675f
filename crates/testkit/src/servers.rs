//! Real servers: Kafka and Cassandra from Maven artifacts, one to three nodes of each, on loopback.
//!
//! [`KafkaCluster`] and [`CassandraCluster`] start their nodes, wait until they answer, and end them when they
//! are dropped; a [`Node`] is stopped, killed, frozen and started again on the same data and ports. A [`Stack`]
//! is both at once. Topics' and tables' contents are the tests' own business.

mod artifacts;
mod cassandra;
mod cassandra_program;
mod cassandra_yaml;
mod cql;
mod error;
mod folder;
mod guarded;
pub mod jvm;
mod kafka;
mod kafka_properties;
mod metadata;
mod node;
mod nodetool;
pub mod pool;
mod pool_server;
pub mod ports;
mod stack;
mod standing;

pub use artifacts::{ArtifactError, Software, jars};
pub use cassandra::{CassandraCluster, CassandraOptions};
pub use error::ServerError;
pub use kafka::{KafkaCluster, KafkaOptions};
pub use node::Node;
pub use nodetool::Nodetool;
pub use stack::{Stack, StackOptions};
pub use standing::{NodeState, StandingShape, StandingStack, StandingState};
