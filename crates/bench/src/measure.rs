//! Measurement: CPU time and memory of processes, latency histograms, spreads over rounds, warm-up detection.

pub mod cost;
pub mod histogram;
pub mod monitor;
pub mod partition_progress;
pub mod process_tree;
pub mod spread;
pub mod warmup;
