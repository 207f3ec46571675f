//! The durable records of one partition that belong to a run, since its last checkpoint.
//!
//! Pure. A record costs one push into a vector; they are sorted and grouped only for a checkpoint.

use crate::checkpoint::Checkpoint;
use crate::ledger::latencies::Bucket;
use crate::ledger::run_number::{CHUNK, RunNumber};
use crate::ledger::segment::{Numbers, Segment};

/// The entries of all partitions at which no more records are read until a checkpoint is written: 1.3 MB.
pub const MAX_ENTRIES: usize = 32_768;

/// A durable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Its offset.
    pub offset: i64,
    /// Its number within its run.
    pub number: RunNumber,
    /// What it became.
    pub outcome: RecordOutcome,
}

/// What a record became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOutcome {
    /// A row, or the deletion of rows. With the time since it was fetched, if that was measured.
    Stored(Option<Bucket>),
    /// A dead letter.
    DeadLettered,
}

/// The entries of a partition, in the order of the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entries(Vec<LedgerEntry>);

impl Entries {
    /// Adds an entry. Its offset is above those before it.
    pub fn push(&mut self, entry: LedgerEntry) {
        self.0.push(entry);
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the segments of the records that `checkpoint` covers, one for each run and chunk. `from`: the offset of
    /// the checkpoint before.
    pub fn segments(&self, checkpoint: &Checkpoint, from: i64) -> Vec<Segment> {
        let to = checkpoint.position.next_offset;
        let mut covered = self.0[..self.before(to)].to_vec();
        // A producer's requests are sorted already, which a stable sort makes use of.
        covered.sort_by_key(|entry| entry.number);
        let chunk = |entry: &LedgerEntry| (entry.number.run, entry.number.sequence / CHUNK);
        let chunks = covered.chunk_by(|one, other| chunk(one) == chunk(other));
        let segments = chunks.map(|entries| {
            let (run, chunk) = chunk(&entries[0]);
            Segment {
                run,
                chunk,
                topic_id: checkpoint.topic_id,
                table_id: checkpoint.table_id,
                partition: checkpoint.partition,
                offsets: from..to,
                numbers: numbers(entries),
            }
        });
        segments.collect()
    }

    /// Forgets the entries below `next_offset`, whose segments are stored.
    pub fn remove_before(&mut self, next_offset: i64) {
        self.0.drain(..self.before(next_offset));
    }

    fn before(&self, next_offset: i64) -> usize {
        self.0.partition_point(|entry| entry.offset < next_offset)
    }
}

/// Entries of one chunk of one run, sorted by their number.
fn numbers(entries: &[LedgerEntry]) -> Numbers {
    let mut numbers = Numbers::default();
    numbers.stored.reserve_exact(entries.len());
    for LedgerEntry { number, outcome, .. } in entries {
        let place = number.place();
        let set = match outcome {
            RecordOutcome::Stored(_) => &mut numbers.stored,
            RecordOutcome::DeadLettered => &mut numbers.dead_lettered,
        };
        if set.last() != Some(&place) {
            set.push(place);
        }
    }
    let latencies = entries.iter().filter_map(|entry| match entry.outcome {
        RecordOutcome::Stored(latency) => latency,
        RecordOutcome::DeadLettered => None,
    });
    numbers.latencies.extend(latencies);
    numbers
}
