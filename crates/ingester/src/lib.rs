#![doc = include_str!("../README.md")]

// Command line and configuration.
pub mod cli;
pub mod config;

// Decides when a run starts.
pub mod scheduler;

// One run: its plan, progress, statistics and outcome.
pub mod run;

// The stages of a run, in the order in which users flow through them.
pub mod fetch;
pub mod transform;

pub mod delivery;

// Compares an ended run with the streamer's ledger.
pub mod ledger;

// Persistent state: runs, outbox and cursors.
pub mod store;

// Shared by fetch and delivery.
pub mod http;

// Interfaces for operators.
pub mod api;
pub mod metrics;
pub mod webhook;

pub use crate::cli::{Cli, execute};
pub use crate::run::exit_error::ExitError;
pub use crate::run::pipeline::Pipeline;
