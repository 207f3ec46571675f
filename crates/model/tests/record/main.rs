//! The crate seen from outside: held against the contract, against hostile input, and against its own laws.

#![allow(clippy::unwrap_used, reason = "what fails here is a failed test")]

mod any_record;
mod conformance;
mod instants;
mod invalid;
mod parsing;
mod properties;
