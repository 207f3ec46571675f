//! Baselines: loops over the bare client libraries, each a process of its own.

pub mod driver;
pub mod producer;
pub mod run;
pub mod sweep;
