//! The streamer's binary against real Kafka and real Cassandra, one of each for all tests of this file; every test has a
//! topic and a keyspace of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod authority;
mod brokers;
mod chance;
mod checkpoints;
mod commands;
mod cut_over;
mod errors;
mod extent;
mod flow;
mod guarded;
mod limits;
mod network;
mod order;
mod outage;
mod production;
mod rebalance;
mod records;
mod redrive;
mod replicas;
mod replication;
mod restore;
mod retention;
mod rolling;
mod schema;
mod stall;
mod static_members;
mod stops;
mod strangers;
mod tls;
mod verify;
mod world;
