//! Tracks the durable prefix of a partition: every record before it is a row or a dead letter.
//!
//! Pure. Completions may arrive in any order. Commits nothing. Collects what the prefix adds to the run ledger.

use std::collections::VecDeque;

use service::failpoint;

use crate::dead_letters::limits::DeadLetterLimits;
use crate::dead_letters::stats::DeadLetterStats;
use crate::ledger::entries::{Entries, LedgerEntry, RecordOutcome};
use crate::ledger::latencies::Bucket;
use crate::ledger::run_number::RunNumber;
use crate::pipeline::position::Position;

/// Tracks one assigned partition. The only source of offsets to checkpoint.
#[derive(Debug)]
pub struct OffsetTracker {
    durable: Position,
    open: VecDeque<OpenBatch>,
    limits: DeadLetterLimits,
    entries: Entries,
}

/// A range of records that completes as a whole.
#[derive(Debug)]
struct OpenBatch {
    id: u64,
    end: Position,
    records: BatchRecords,
    /// As given to [`complete`](OffsetTracker::complete).
    durable_at: Option<Vec<i64>>,
}

/// The records of a range, as far as the dead-letter statistics and the run ledger need them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchRecords {
    /// The number of records.
    pub count: usize,
    /// The indices of the dead letters among them.
    pub dead: Vec<usize>,
    /// Those that belong to a run.
    pub of_runs: Vec<RunRecord>,
}

/// A record that belongs to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// Its index in the range.
    pub index: usize,
    /// Its offset.
    pub offset: i64,
    /// Its number within the run.
    pub number: RunNumber,
    /// When it was fetched, in microseconds since 1970, if its latency is measured.
    pub fetched_at: Option<i64>,
}

impl OffsetTracker {
    /// Starts at `start`, before which everything is durable.
    pub fn new(start: Position, limits: DeadLetterLimits) -> Self {
        Self {
            durable: start,
            open: VecDeque::new(),
            limits,
            entries: Entries::default(),
        }
    }

    /// Opens the range of `records` that ends at `end`. Each id is used once.
    pub fn open(&mut self, id: u64, end: Position, records: BatchRecords) {
        self.open.push_back(OpenBatch {
            id,
            end,
            records,
            durable_at: None,
        });
    }

    /// Completes the range `id`. Cassandra rejected the records with the indices `rejected`, which became dead letters.
    /// `durable_at`: when each record was durable, in microseconds since 1970, or nothing if no latency is measured. Returns
    /// whether the prefix grew.
    pub fn complete(&mut self, id: u64, rejected: &[usize], durable_at: Vec<i64>) -> bool {
        if let Some(batch) = self.open.iter_mut().find(|batch| batch.id == id) {
            batch.durable_at = Some(durable_at);
            batch.records.dead.extend_from_slice(rejected);
        }
        if failpoint::inject("checkpoint_not_prefixed") {
            for earlier in self.open.iter_mut().filter(|batch| batch.id < id) {
                earlier.durable_at.get_or_insert_default();
            }
        }
        let before = self.durable.next_offset;
        while let Some(durable_at) = self.open.front_mut().and_then(|batch| batch.durable_at.take()) {
            let batch = self.open.pop_front().expect("the front was just seen");
            for record in &batch.records.of_runs {
                let durable_at = durable_at.get(record.index).copied();
                self.entries.push(batch.records.entry(record, durable_at));
            }
            self.durable = Position {
                dead_letters: batch.records.stats_after(self.durable.dead_letters, self.limits),
                ..batch.end
            };
        }
        self.durable.next_offset > before
    }

    /// The position at which a restart would continue now.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// The records of runs in the durable prefix whose segments are not stored yet.
    pub fn entries(&mut self) -> &mut Entries {
        &mut self.entries
    }

    /// Whether the range `id` is open.
    pub fn is_open(&self, id: u64) -> bool {
        self.open.iter().any(|batch| batch.id == id)
    }

    /// Whether all opened ranges are complete, except for these.
    pub fn is_drained(&self, except: &[u64]) -> bool {
        let is_complete = |batch: &OpenBatch| batch.durable_at.is_some() || except.contains(&batch.id);
        self.open.iter().all(is_complete)
    }
}

impl BatchRecords {
    fn entry(&self, record: &RunRecord, durable_at: Option<i64>) -> LedgerEntry {
        let outcome = if self.dead.contains(&record.index) {
            RecordOutcome::DeadLettered
        } else {
            let measured = durable_at.zip(record.fetched_at);
            RecordOutcome::Stored(measured.map(|(to, from)| Bucket::of(to.saturating_sub(from))))
        };
        LedgerEntry {
            offset: record.offset,
            number: record.number,
            outcome,
        }
    }

    /// Returns the statistics after these records.
    ///
    /// Statistics that have reached a limit do not change any more: later rows that were already in flight do not
    /// prove that the cause is fixed.
    fn stats_after(&self, before: DeadLetterStats, limits: DeadLetterLimits) -> DeadLetterStats {
        (0..self.count).fold(before, |stats, index| match limits.reached(stats) {
            Some(_) => stats,
            None => stats.after(self.dead.contains(&index), limits.window()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::DeadLetterSettings;
    use crate::pipeline::write_timestamp::MaxSeen;

    fn at(next_offset: i64) -> Position {
        Position {
            next_offset,
            leader_epoch: None,
            last_write_timestamp: None,
            max_seen: MaxSeen::default(),
            dead_letters: DeadLetterStats::default(),
        }
    }

    fn limits() -> DeadLetterLimits {
        DeadLetterLimits::new(&DeadLetterSettings::default())
    }

    fn none() -> BatchRecords {
        BatchRecords::default()
    }

    #[test]
    fn gap_holds_the_prefix_back() {
        let mut tracker = OffsetTracker::new(at(0), limits());
        tracker.open(1, at(10), none());
        tracker.open(2, at(20), none());
        assert!(!tracker.complete(2, &[], Vec::new()));
        assert_eq!(tracker.durable(), at(0));
        assert!(tracker.complete(1, &[], Vec::new()));
        assert_eq!(tracker.durable(), at(20));
        assert!(tracker.is_drained(&[]));
    }

    #[test]
    fn dead_letters_count_in_log_order_once_durable() {
        let mut tracker = OffsetTracker::new(at(0), limits());
        let records = |count, dead: &[usize]| BatchRecords {
            count,
            dead: dead.to_vec(),
            of_runs: Vec::new(),
        };
        tracker.open(1, at(3), records(3, &[0, 2]));
        tracker.open(2, at(5), records(2, &[0]));
        tracker.complete(2, &[1], Vec::new());
        assert_eq!(tracker.durable().dead_letters.consecutive, 0);
        tracker.complete(1, &[], Vec::new());
        assert_eq!(
            tracker.durable().dead_letters.consecutive,
            3,
            "the last of the first, and both that follow"
        );
    }

    #[test]
    fn reached_limit_is_kept_despite_later_rows() {
        let limits = DeadLetterLimits::new(&DeadLetterSettings {
            max_consecutive: 2,
            ..DeadLetterSettings::default()
        });
        let mut tracker = OffsetTracker::new(at(0), limits);
        let records = |count| BatchRecords {
            count,
            dead: Vec::new(),
            of_runs: Vec::new(),
        };
        tracker.open(1, at(4), records(4));
        tracker.open(2, at(9), records(5));
        tracker.complete(1, &[1, 2], Vec::new());
        tracker.complete(2, &[], Vec::new());
        assert_eq!(tracker.durable().dead_letters.consecutive, 2);
        assert_eq!(tracker.durable().next_offset, 9);
    }

    #[test]
    fn unknown_completion_changes_nothing() {
        let mut tracker = OffsetTracker::new(at(5), limits());
        assert!(!tracker.complete(9, &[], Vec::new()));
        assert_eq!(tracker.durable(), at(5));
    }

    #[test]
    fn ledger_gets_the_records_of_the_prefix_with_their_outcome() {
        let record = |index| RunRecord {
            index,
            offset: i64::try_from(index).unwrap() + 10,
            number: RunNumber {
                run: uuid::Uuid::nil(),
                sequence: index as u64,
            },
            fetched_at: Some(1_000),
        };
        let records = BatchRecords {
            count: 4,
            dead: vec![1],
            of_runs: vec![record(0), record(1), record(3)],
        };
        let mut tracker = OffsetTracker::new(at(0), limits());
        tracker.open(1, at(10), none());
        tracker.open(2, at(14), records);
        tracker.complete(2, &[3], vec![9_000, 0, 0, 0]);
        assert!(tracker.entries().is_empty(), "there is a gap before them");
        tracker.complete(1, &[], Vec::new());
        let entry = |index, outcome| LedgerEntry {
            offset: record(index).offset,
            number: record(index).number,
            outcome,
        };
        let mut expected = Entries::default();
        expected.push(entry(0, RecordOutcome::Stored(Some(Bucket::of(8_000)))));
        expected.push(entry(1, RecordOutcome::DeadLettered));
        expected.push(entry(3, RecordOutcome::DeadLettered));
        assert_eq!(*tracker.entries(), expected);
    }

    proptest! {
        #[test]
        fn durable_position_is_the_completed_prefix(
            order in Just((0_u64..40).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut tracker = OffsetTracker::new(at(0), limits());
            for id in 0..40_u64 {
                tracker.open(id, at(i64::try_from(id + 1).unwrap() * 3), none());
            }
            let mut done = [false; 40];
            for id in order {
                tracker.complete(id, &[], Vec::new());
                done[usize::try_from(id).unwrap()] = true;
                let prefix = done.iter().take_while(|done| **done).count();
                prop_assert_eq!(tracker.durable().next_offset, i64::try_from(prefix).unwrap() * 3);
            }
        }
    }
}
