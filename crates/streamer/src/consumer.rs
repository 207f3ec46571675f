//! The Kafka side: client configuration, topics, metadata requests and the consumer thread.

pub mod client;
pub mod topics;

pub mod channels;
pub mod eof_tracker;
pub mod group_membership;
pub mod last_poll;
pub mod partition_check;
pub mod poll_loop;
pub mod rebalance;
mod turns;

pub mod scan;
