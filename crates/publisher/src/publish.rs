//! Publishes the records of a request and reports their results.

pub mod delivery;
pub mod idempotency;
pub(crate) mod publication;
pub mod response;
pub mod result;
