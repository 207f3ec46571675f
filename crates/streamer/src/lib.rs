//! Kafka → micro-batch → Cassandra → checkpoint: every record becomes a row or a dead letter, exactly once.
//!
//! The modules stand in the order in which data flows: [`kafka`] receives, [`record`] reads, [`clock`] stamps, [`batch`]
//! gathers, [`settle`] makes durable through [`cassandra`], [`progress`] finds the durable prefix, and [`checkpoint`]
//! remembers it. [`pipeline`] wires them, [`run`] keeps them running. [`commands`] is what an operator does by hand.

pub mod config;

/// The old path of [`config`]. To be removed once no module uses it.
pub mod settings {
    pub use crate::config::*;
}

pub mod kafka;
pub mod raw;
pub mod record;
pub mod row;

pub mod clock;
pub mod lane;

pub mod batch;
pub mod retention;
pub mod settle;

pub mod cassandra;

pub mod assign;
pub mod checkpoint;
pub mod progress;
pub mod tally;

pub mod seldom;
pub mod stall;
pub mod stopped;

pub mod metrics;
pub mod pipeline;
pub mod probes;
mod run;

pub mod commands;

pub use crate::config::Settings;
pub use crate::run::{RunError, run};
