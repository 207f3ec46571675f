//! Black-box tests: conformance to the contract, hostile input, and properties.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod any_record;
mod conformance;
mod instants;
mod invalid;
mod oracle;
mod oracle_comparison;
mod parsing;
mod properties;
mod random_contracts;
mod values;
