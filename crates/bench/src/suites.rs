//! The benches of the command line: one for each service, one for all three together, growth, and the gate.

pub mod chain;
pub mod growth;
pub mod ingester;
pub mod publisher;
pub mod quick;
pub mod streamer;
