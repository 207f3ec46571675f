//! What the run ledger says of a run.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The sequence numbers of a run in the ledger. Ranges are inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LedgerRanges {
    pub(crate) stored: Vec<[u64; 2]>,
    pub(crate) dead_lettered: Vec<[u64; 2]>,
    /// Rows of an earlier table.
    pub(crate) lost: Vec<[u64; 2]>,
}

/// The numbers in the ranges.
pub(crate) fn numbers(ranges: &[[u64; 2]]) -> BTreeSet<u64> {
    ranges.iter().flat_map(|[first, last]| *first..=*last).collect()
}

/// The ranges of the numbers.
#[cfg(test)]
pub(crate) fn ranges(numbers: &BTreeSet<u64>) -> Vec<[u64; 2]> {
    numbers.iter().map(|number| [*number; 2]).collect()
}
