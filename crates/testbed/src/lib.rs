//! Real Kafka and Cassandra as child processes, a proxy that disturbs, the offline random-user API and the oracle; never
//! deployed.

pub mod bench;
pub mod chaos;
pub mod cli;
pub mod comparison;
pub mod demo;
pub mod error;
pub mod manual;
pub mod process;
pub mod proxy;
pub mod randomuser;
pub mod servers;
pub mod service;
pub mod table;
pub mod tap;
pub mod workspace;
