//! Compares an ended run with the streamer's ledger: is each accepted record a row or a dead letter, and nothing else?
//!
//! The ledger is queried again until it confirms the run, contradicts it, or has expired. Changes no record.

pub mod ledger_client;
pub mod ledger_ranges;
pub mod verdict;
pub mod verdict_loop;
