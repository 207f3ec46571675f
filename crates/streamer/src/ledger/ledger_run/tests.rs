//! Tests of a run in the ledger: the union of segments, and the document.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::dead_letters::stats::DeadLetterStats;
use crate::ledger::entries::{Entries, LedgerEntry, RecordOutcome};
use crate::ledger::latencies::Bucket;
use crate::ledger::run_number::RunNumber;
use crate::ledger::segment::{self, Segment};
use crate::pipeline::position::Position;
use crate::pipeline::write_timestamp::MaxSeen;

const TABLE: Uuid = Uuid::from_u128(1);
const EARLIER_TABLE: Uuid = Uuid::from_u128(2);
const RUN: Uuid = Uuid::from_u128(3);

fn numbers(stored: &[u32], dead_lettered: &[u32]) -> Numbers {
    Numbers {
        stored: stored.to_vec(),
        dead_lettered: dead_lettered.to_vec(),
        latencies: Latencies::default(),
    }
}

fn state(chunks: &[(u64, ChunkState)]) -> LedgerRun {
    let mut state = LedgerRun::new(RUN);
    for (chunk, found) in chunks {
        state.append(*chunk, found);
    }
    state
}

#[test]
fn number_in_both_sets_is_a_row_and_a_dead_letter_is_not_lost() {
    let mut chunk = ChunkState::new(Some(TABLE));
    chunk.add(TABLE, &numbers(&[0, 1], &[2]));
    chunk.add(EARLIER_TABLE, &numbers(&[1, 2, 3, 7], &[0, 4]));
    let state = state(&[(0, chunk)]);
    assert_eq!(state.stored, [[0, 1]]);
    assert_eq!(state.dead_lettered, [[2, 2], [4, 4]]);
    assert_eq!(state.lost, [[3, 3], [7, 7]]);
    assert_eq!((state.rows, state.dead_letters, state.lost_table), (2, 2, 2));
}

#[test]
fn every_row_is_lost_without_a_table() {
    let mut chunk = ChunkState::new(None);
    chunk.add(TABLE, &numbers(&[5], &[6]));
    let state = state(&[(0, chunk)]);
    assert_eq!((state.rows, state.dead_letters, state.lost_table), (0, 1, 1));
}

#[test]
fn range_continues_across_words_and_chunks() {
    let mut first = ChunkState::new(Some(TABLE));
    first.add(TABLE, &numbers(&(999_800..1_000_000).collect::<Vec<_>>(), &[]));
    let mut second = ChunkState::new(Some(TABLE));
    second.add(TABLE, &numbers(&[0, 1, 3], &[]));
    let state = state(&[(0, first), (1, second)]);
    assert_eq!(state.stored, [[999_800, 1_000_001], [1_000_003, 1_000_003]]);
    assert_eq!(state.rows, 203);
}

#[test]
fn document_has_the_members_of_the_contract() {
    let mut chunk = ChunkState::new(Some(TABLE));
    let mut of_segment = numbers(&[0, 1, 2], &[3]);
    of_segment.latencies.extend([Bucket::of(12_000)]);
    chunk.add(TABLE, &of_segment);
    let document = serde_json::to_value(state(&[(0, chunk)])).unwrap();
    assert_eq!(document["run_id"], RUN.to_string());
    assert_eq!(document["stored"], serde_json::json!([[0, 2]]));
    assert_eq!(document["dead_lettered"], serde_json::json!([[3, 3]]));
    assert_eq!(document["end_to_end"]["count"], 1);
    let empty = serde_json::to_value(state(&[])).unwrap();
    assert_eq!(empty["end_to_end"], serde_json::Value::Null);
    assert_eq!(empty["lost"], serde_json::json!([]));
}

/// A record in the log of one partition.
#[derive(Clone, Copy, Debug)]
struct Logged {
    number: RunNumber,
    dead: bool,
}

fn logged() -> impl Strategy<Value = Logged> {
    // Few numbers, so that the producer's duplicates are frequent, on both sides of a chunk's end.
    (0..2_u128, 999_990..1_000_010_u64, any::<bool>()).prop_map(|(run, sequence, dead)| {
        let run = Uuid::from_u128(run);
        let number = RunNumber { run, sequence };
        Logged { number, dead }
    })
}

fn checkpoint(partition: i32, next_offset: i64) -> Checkpoint {
    let position = Position {
        next_offset,
        leader_epoch: None,
        last_write_timestamp: None,
        max_seen: MaxSeen::default(),
        dead_letters: DeadLetterStats::default(),
    };
    Checkpoint {
        partition,
        position,
        epoch: 0,
        topic_id: Uuid::nil(),
        table_id: TABLE,
    }
}

/// The ledger and the checkpoint of one partition, and the member that reads it.
struct Partition {
    log: Vec<Logged>,
    checkpoint: i64,
    entries: Entries,
    durable: i64,
}

impl Partition {
    fn write(&mut self, records: usize) {
        for _ in 0..records {
            let Ok(offset) = usize::try_from(self.durable) else {
                return;
            };
            let Some(Logged { number, dead }) = self.log.get(offset) else {
                return;
            };
            let outcome = if *dead {
                RecordOutcome::DeadLettered
            } else {
                RecordOutcome::Stored(None)
            };
            self.entries.push(LedgerEntry {
                offset: self.durable,
                number: *number,
                outcome,
            });
            self.durable += 1;
        }
    }

    /// The member is killed or loses the partition. The next one starts at the checkpoint.
    fn restart(&mut self) {
        self.entries = Entries::default();
        self.durable = self.checkpoint;
    }
}

proptest! {
    #[test]
    fn ledger_holds_exactly_what_the_checkpoints_cover(
        logs in proptest::collection::vec(proptest::collection::vec(logged(), 0..60), 1..4),
        steps in proptest::collection::vec((any::<prop::sample::Index>(), 0..6_u8, 1..30_usize), 1..120),
    ) {
        let mut ledger: Vec<Segment> = Vec::new();
        let partition = |log| Partition { log, checkpoint: 0, entries: Entries::default(), durable: 0 };
        let mut partitions: Vec<_> = logs.into_iter().map(partition).collect();
        for (index, step, size) in steps {
            let index = index.index(partitions.len());
            let partition = &mut partitions[index];
            let position = checkpoint(i32::try_from(index).unwrap(), partition.durable);
            let segments = partition.entries.segments(&position, partition.checkpoint);
            match step {
                // Saved.
                0 | 1 => {
                    ledger.extend(segments);
                    partition.checkpoint = partition.durable;
                    partition.entries.remove_before(partition.durable);
                }
                // Killed between the segments and the checkpoint, or after some of the segments.
                2 => {
                    ledger.extend(segments.into_iter().take(size));
                    partition.restart();
                }
                // The checkpoint failed and is retried: more records may be durable by then.
                3 => ledger.extend(segments),
                // A replay by an operator.
                4 if size == 1 => {
                    partition.checkpoint = 0;
                    partition.restart();
                }
                _ => partition.write(size),
            }
        }
        for partition in &mut partitions {
            partition.write(partition.log.len());
        }
        for (index, partition) in partitions.iter().enumerate() {
            let position = checkpoint(i32::try_from(index).unwrap(), partition.durable);
            ledger.extend(partition.entries.segments(&position, partition.checkpoint));
        }
        let mut expected: BTreeMap<Uuid, [BTreeSet<u64>; 2]> = BTreeMap::new();
        for record in partitions.iter().flat_map(|partition| &partition.log) {
            let sets = expected.entry(record.number.run).or_default();
            sets[usize::from(record.dead)].insert(record.number.sequence);
        }
        for (run, [stored, dead]) in expected {
            let mut state = LedgerRun::new(run);
            for chunk in [0, 1] {
                let mut found = ChunkState::new(Some(TABLE));
                for segment in ledger.iter().filter(|it| it.run == run && it.chunk == chunk) {
                    let mut bytes = Vec::new();
                    segment::encode(&segment.numbers.stored, &mut bytes);
                    let stored = segment::decode(&bytes).unwrap();
                    found.add(segment.table_id, &Numbers { stored, ..segment.numbers.clone() });
                }
                state.append(chunk, &found);
            }
            let all = |ranges: &[[u64; 2]]| -> Vec<u64> {
                ranges.iter().flat_map(|[first, last]| *first..=*last).collect()
            };
            prop_assert_eq!(all(&state.stored), stored.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(all(&state.dead_lettered), dead.difference(&stored).copied().collect::<Vec<_>>());
            prop_assert_eq!(state.rows, stored.len() as u64);
            prop_assert!(state.stored.windows(2).all(|pair| pair[0][1] + 1 < pair[1][0]));
        }
    }
}
