//! The run ledger: which records of a run became rows, and which became dead letters.
//!
//! A record belongs to a run if it has the headers `run-id` and `run-seq`. Between two checkpoints, a partition collects its
//! durable records ([`entries`]). They are stored as [`segment`]s before the checkpoint that covers them ([`store`]).
//! Nothing is read before writing: a reader unites all segments of a run ([`ledger_run`]), so a record that is written twice
//! counts once.

pub mod latencies;
pub mod run_headers;
pub mod run_number;
pub(crate) mod varint;

pub mod entries;
pub mod segment;

pub mod ledger_run;
pub mod store;

pub(crate) mod recent_latencies;
pub(crate) mod routes;
