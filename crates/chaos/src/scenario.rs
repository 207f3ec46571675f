//! Scenarios: which faults a round injects, when, and on which cluster.

pub(crate) mod catalog;
pub(crate) mod fault;
mod random;
mod spec;

pub(crate) use random::random;
pub(crate) use spec::{RoundSpec, Scenario, clock_shift};
