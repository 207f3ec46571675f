//! Side-by-side figures: what a service does against the bare loop that nothing can beat, in one run on one machine.
//!
//! Figures of two runs do not compare; ratios within one run do.

pub mod assignment;
pub mod ceiling;
pub mod figures;
pub mod ingester;
pub mod people;
pub mod publisher;
pub mod streamer;
pub mod usage;
