//! Real Kafka and Cassandra as child processes, the offline random-user API, a fault-injecting proxy, clients and the
//! demo. For tests and benches, never deployed.

pub mod cli;
pub mod demo;
pub mod error;

pub mod process;
pub mod servers;
pub mod service;
pub mod workspace;

pub mod proxy;
pub mod randomuser;

pub mod cassandra_client;
pub mod certificates;
pub mod comparison;
pub mod generator;
pub mod kafka_client;
pub mod people;
pub mod readme_check;
pub mod record_type;
pub mod rows;
pub mod seeded_random;
pub mod token_key;
pub mod token_server;
pub mod traces;
