//! Black-box tests of the streamer's binary with a real Kafka and a real Cassandra.
//!
//! All tests share one server of each. Every test has its own topic and keyspace.

#![expect(clippy::unwrap_used, reason = "an unexpected error fails the test")]

mod support;

mod admin;
mod cassandra;
mod contract;
mod deployment;
mod kafka;
mod pipeline;
