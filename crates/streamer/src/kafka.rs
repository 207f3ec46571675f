//! Everything that speaks to Kafka: the topics, the consumer on its thread, the dead letters.

pub mod broker;
pub mod client;
pub mod dead_letters;
pub mod last_poll;
pub mod rebalance;
pub mod scan;
pub mod source;
pub mod topic_id;
pub mod topics;
