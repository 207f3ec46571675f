//! Clients that read and write topics and tables.

pub mod cassandra_client;
pub mod kafka_client;
