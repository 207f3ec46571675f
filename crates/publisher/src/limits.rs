//! Limits of callers, memory, records in flight and open files.

pub mod admission;
pub(crate) mod buffer;
pub mod caller_share;
pub mod callers;
pub(crate) mod cost;
pub mod rate_limit;
pub(crate) mod response_memory;
pub(crate) mod rlimit;
