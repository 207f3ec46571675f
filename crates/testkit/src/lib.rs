//! Real Kafka and Cassandra as child processes, a proxy that disturbs, the offline random-user API and the oracle; never
//! deployed.

pub mod cassandra_client;
pub mod cli;
pub mod comparison;
pub mod demo;
pub mod error;
pub mod kafka_client;
pub mod people;
pub mod process;
pub mod proxy;
pub mod randomuser;
pub mod readme_check;
pub mod servers;
pub mod service;
pub mod workspace;
