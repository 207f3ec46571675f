//! Benchmarks of the services, compared with baselines and peers in one run on one machine.
//!
//! Figures of two runs are not comparable; ratios within one run are.

pub mod cli;

pub mod chain;
pub mod growth;
pub mod ingester;
pub mod publisher;
pub mod quick;
pub mod streamer;

pub mod baseline;
pub mod peers;
pub mod sink;

pub mod cleanup;
pub mod env;
pub mod usage;

pub mod draw;
pub mod error;
pub mod report;
