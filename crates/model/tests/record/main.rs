//! Black-box tests: conformance to the contract, hostile input, and properties.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod any_record;
mod conformance;
mod instants;
mod invalid;
mod parsing;
mod properties;
