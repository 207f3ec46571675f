//! Benchmarks of the services: throughput, latency, CPU time and memory, compared with baseline loops and with peers.
//!
//! Absolute figures of two runs do not compare. Ratios within one run do.

pub mod cli;
pub mod suites;

pub mod env;
pub mod load;
pub mod peers;
pub mod sinks;

pub mod compare;
pub mod measure;

pub mod plot;
pub mod report;
