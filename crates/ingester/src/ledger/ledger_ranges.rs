//! What the ledger knows of a run.

use serde::{Deserialize, Serialize};

use crate::run::range_set::RangeSet;

/// What the ledger knows of a run, as sets of sequence numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerRanges {
    /// Records that are rows.
    pub stored: RangeSet<u64>,
    /// Records that are dead letters.
    pub dead_lettered: RangeSet<u64>,
    /// Records that were rows of a table that was dropped.
    pub lost: RangeSet<u64>,
    /// Latency from the API's reply to the row.
    pub end_to_end: Option<EndToEnd>,
}

/// Latency of the records of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndToEnd {
    /// Number of records.
    pub count: u64,
    /// The median in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile in milliseconds.
    pub p99_ms: f64,
}
