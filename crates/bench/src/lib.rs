//! Side-by-side figures: what a service does against the bare loop that nothing can beat, in one run on one machine.
//!
//! Figures of two runs do not compare; ratios within one run do.

pub mod bare;
pub mod ceiling;
pub mod chain;
pub mod cli;
pub mod contest;
pub mod drain;
pub mod draw;
pub mod error;
pub mod field;
pub mod figures;
pub mod growth;
pub mod histogram;
pub mod ingester;
pub mod leftovers;
pub mod machine;
pub mod peers;
pub mod publisher;
pub mod quick;
pub mod report;
pub mod sink;
pub mod spread;
pub mod stream;
pub mod streamer;
pub mod usage;
pub mod warmup;
