//! The Kafka producer, its topic and its status.

mod callbacks;
pub mod client;
pub mod producer;
pub(crate) mod record;
pub mod status;
pub(crate) mod topic_monitor;
