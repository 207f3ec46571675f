//! The nodes of a stack and their ports.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The nodes of a stack and their ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackShape {
    /// Kafka nodes, 0 to 3.
    pub kafka: usize,
    /// Cassandra nodes, 0 to 3.
    pub cassandra: usize,
    /// See [`KafkaOptions::first_port`](super::KafkaOptions::first_port).
    pub kafka_port: u16,
    /// See [`CassandraOptions::port`](super::CassandraOptions::port).
    pub cassandra_port: u16,
}

impl fmt::Display for StackShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kafka,
            cassandra,
            kafka_port,
            cassandra_port,
        } = self;
        write!(
            f,
            "{kafka} Kafka (port {kafka_port}) and {cassandra} Cassandra (port {cassandra_port})"
        )
    }
}
