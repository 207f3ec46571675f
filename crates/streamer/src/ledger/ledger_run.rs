//! A run in the ledger: the union of its segments.
//!
//! Pure. The order of the segments does not matter, and a segment that is added twice changes nothing but the latencies.

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::ledger::latencies::{Latencies, LatencySummary};
use crate::ledger::run_number::CHUNK;
use crate::ledger::segment::Numbers;

/// What became of a run's records. Ranges are sorted, disjoint and inclusive.
#[derive(Debug, Serialize)]
pub struct LedgerRun {
    /// The run.
    #[serde(serialize_with = "as_text")]
    pub run_id: Uuid,
    /// The numbers in `stored`.
    pub rows: u64,
    /// The numbers in `dead_lettered`.
    pub dead_letters: u64,
    /// The numbers in `lost`.
    pub lost_table: u64,
    /// Rows of the present table, and deletions.
    pub stored: Vec<[u64; 2]>,
    /// Dead letters that never became rows of the present table.
    pub dead_lettered: Vec<[u64; 2]>,
    /// Rows of an earlier table, which the present one lacks.
    pub lost: Vec<[u64; 2]>,
    /// The time from fetching to storing; `None` if it was not measured. A record that was stored twice counts twice.
    #[serde(serialize_with = "summarized")]
    pub end_to_end: Latencies,
}

fn as_text<S: Serializer>(run: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(run)
}

fn summarized<S: Serializer>(latencies: &Latencies, serializer: S) -> Result<S::Ok, S::Error> {
    latencies.summary().serialize(serializer)
}

impl LedgerRun {
    /// Creates a run without segments.
    pub fn new(run_id: Uuid) -> Self {
        Self {
            run_id,
            rows: 0,
            dead_letters: 0,
            lost_table: 0,
            stored: Vec::new(),
            dead_lettered: Vec::new(),
            lost: Vec::new(),
            end_to_end: Latencies::default(),
        }
    }

    /// What is known of the time from fetching to storing.
    pub fn end_to_end(&self) -> Option<LatencySummary> {
        self.end_to_end.summary()
    }

    /// Appends a chunk, which must be above all before it.
    pub fn append(&mut self, chunk: u64, found: &ChunkState) {
        let ChunkState {
            stored,
            dead_lettered,
            lost,
            latencies,
            ..
        } = found;
        let sets = [
            (&mut self.rows, &mut self.stored),
            (&mut self.dead_letters, &mut self.dead_lettered),
            (&mut self.lost_table, &mut self.lost),
        ];
        for (set, (count, ranges)) in sets.into_iter().enumerate() {
            for index in 0..stored.0.len() {
                // A dead letter can be redriven, so its number is not lost.
                let word = match set {
                    0 => stored.0[index],
                    1 => dead_lettered.0[index] & !stored.0[index],
                    _ => lost.0[index] & !stored.0[index] & !dead_lettered.0[index],
                };
                *count += u64::from(word.count_ones());
                let base = chunk * CHUNK + (index * WORD) as u64;
                append_word(ranges, base, word);
            }
        }
        self.end_to_end.merge(latencies);
    }
}

/// Appends the numbers of a word to sorted ranges below them.
fn append_word(ranges: &mut Vec<[u64; 2]>, base: u64, mut word: u64) {
    let mut shifted = 0;
    while word != 0 {
        let zeros = word.trailing_zeros();
        let ones = (word >> zeros).trailing_ones();
        let first = base + u64::from(shifted + zeros);
        let last = first + u64::from(ones) - 1;
        match ranges.last_mut() {
            Some([_, end]) if *end + 1 == first => *end = last,
            _ => ranges.push([first, last]),
        }
        shifted += zeros + ones;
        // A shift by the whole width would overflow.
        word = (word >> zeros).checked_shr(ones).unwrap_or(0);
    }
}

/// The union of the segments of one chunk.
#[derive(Debug)]
pub struct ChunkState {
    table_id: Option<Uuid>,
    stored: NumberSet,
    dead_lettered: NumberSet,
    lost: NumberSet,
    latencies: Latencies,
}

impl ChunkState {
    /// Creates the union of no segments. `table_id`: of the present table, if there is one.
    pub fn new(table_id: Option<Uuid>) -> Self {
        Self {
            table_id,
            stored: NumberSet::default(),
            dead_lettered: NumberSet::default(),
            lost: NumberSet::default(),
            latencies: Latencies::default(),
        }
    }

    /// Adds a segment, whose rows are in the table `table_id`.
    pub fn add(&mut self, table_id: Uuid, numbers: &Numbers) {
        let stored = if self.table_id == Some(table_id) {
            &mut self.stored
        } else {
            &mut self.lost
        };
        stored.extend(&numbers.stored);
        self.dead_lettered.extend(&numbers.dead_lettered);
        self.latencies.merge(&numbers.latencies);
    }
}

/// The bits of a word.
const WORD: usize = 64;

/// A set of the numbers of a chunk, one bit each.
#[derive(Debug)]
struct NumberSet(Vec<u64>);

impl Default for NumberSet {
    fn default() -> Self {
        let words = usize::try_from(CHUNK).map_or(0, |numbers| numbers.div_ceil(WORD));
        Self(vec![0; words])
    }
}

impl NumberSet {
    fn extend(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.0[*number as usize / WORD] |= 1 << (*number as usize % WORD);
        }
    }
}

#[cfg(test)]
#[path = "ledger_run/tests.rs"]
mod tests;
