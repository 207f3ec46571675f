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

mod clients;
mod records;
mod security;

pub mod readme_check;
pub mod seeded_random;
pub mod traces;

pub use self::clients::{cassandra_client, kafka_client};
pub use self::records::{comparison, generator, people, record_type, rows};
pub use self::security::{certificates, token_key, token_server};
