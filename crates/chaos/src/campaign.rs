//! Plays rounds and writes their report.

mod artifacts;
mod coverage;
mod mutation;
mod round;
mod runner;

pub(crate) use mutation::{MUTATIONS, MutationResult};
pub use runner::{Campaign, Selection, commit};
