//! The types of values, and the rules that a value can break.

mod instant;
mod reason;

pub use instant::Instant;
pub use reason::{JsonKind, Reason};
