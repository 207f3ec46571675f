//! Starts publishers and Kafka, and sends, reads and checks records.

pub(crate) mod broker;
pub(crate) mod frames;
pub(crate) mod load;
pub(crate) mod openapi;
pub(crate) mod publisher_process;
pub(crate) mod sample_contracts;
pub(crate) mod sample_users;
pub(crate) mod topic;
