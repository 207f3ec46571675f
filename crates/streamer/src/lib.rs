//! Writes a Kafka topic to a Cassandra table. Every record becomes a row or a dead letter, exactly once.
//!
//! Data flows through the modules in this order: [`consumer`] receives records, [`pipeline`] decodes, batches and writes
//! them through [`cassandra`], [`dead_letters`] takes the records that can't be rows, and [`checkpoint`] stores the offsets
//! of the durable prefix. [`ledger`] stores which records of a run they cover. [`health`] probes both servers, [`run()`] wires everything, and [`admin`] holds the operator's
//! commands.

pub mod config;

pub mod consumer;
pub mod pipeline;

pub mod cassandra;
pub mod dead_letters;

pub mod checkpoint;
pub mod ledger;

pub mod health;
pub mod metrics;
mod run;

pub mod admin;

pub use crate::config::Settings;
pub use crate::run::{RunError, run};
