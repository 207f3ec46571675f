//! Load generators: baseline loops of the bare drivers, a steady stream of records, and HTTP callers.

pub mod callers;
pub mod connection;
pub mod driver_baseline;
pub mod noop;
pub mod producer_baseline;
pub mod steady;
pub mod stream;
