//! Builds micro-batches: records that are written together, and the positions that their completion proves.
//!
//! Pure. Decides when to flush, and does not write.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::BatchSettings;
use crate::ledger::run_number::RunNumber;
use crate::pipeline::consumed_record::Change;
use crate::pipeline::offset_tracker::{BatchRecords, RunRecord};
use crate::pipeline::position::Position;
use crate::pipeline::raw_record::RawRecord;

/// A record with its position and write timestamp.
#[derive(Debug)]
pub struct Operation {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Kafka's timestamp in milliseconds since 1970, or -1 if there is none.
    pub timestamp: i64,
    /// The write timestamp in microseconds since 1970.
    pub write_timestamp: i64,
    /// The change of the table.
    pub change: Change,
    /// Its number, if it belongs to a run.
    pub run: Option<RunNumber>,
    /// When it was fetched, in microseconds since 1970, if its latency is measured.
    pub fetched_at: Option<i64>,
    /// The original bytes.
    pub raw: RawRecord,
}

/// A flushed micro-batch.
#[derive(Debug)]
pub struct MicroBatch {
    /// Unique in this process.
    pub id: u64,
    /// The records; those of one partition are in order.
    pub operations: Vec<Operation>,
    /// The partitions of the records.
    pub partitions: Vec<BatchPartition>,
    /// The reason of the flush.
    pub trigger: FlushTrigger,
    /// The bytes of keys, values and headers.
    pub bytes: usize,
    /// When the first of its records was received; none without records.
    pub received: Option<Instant>,
}

/// One partition of a micro-batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPartition {
    /// The partition.
    pub partition: i32,
    /// Its position once all its records are durable.
    pub position: Position,
    /// Its records.
    pub records: BatchRecords,
}

/// Why a micro-batch was flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushTrigger {
    /// At most one other micro-batch was being written, so waiting would only add latency.
    Idle,
    /// `batch.max_rows`.
    Rows,
    /// `batch.max_bytes`.
    Bytes,
    /// `batch.max_age`.
    Age,
}

impl FlushTrigger {
    /// The label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Age => "age",
        }
    }
}

/// Collects the next micro-batch.
#[derive(Debug)]
pub struct BatchBuilder {
    max_rows: usize,
    max_bytes: usize,
    max_age: Duration,
    operations: Vec<Operation>,
    partitions: BTreeMap<i32, BatchPartition>,
    bytes: usize,
    oldest: Option<Instant>,
}

impl BatchBuilder {
    /// Creates an empty builder.
    pub fn new(settings: &BatchSettings) -> Self {
        Self {
            max_rows: settings.max_rows,
            max_bytes: usize::try_from(settings.max_bytes.as_u64()).unwrap_or(usize::MAX),
            max_age: settings.max_age,
            operations: Vec::new(),
            partitions: BTreeMap::new(),
            bytes: 0,
            oldest: None,
        }
    }

    /// Adds a record, after which its partition is at `end`.
    pub fn push(&mut self, operation: Operation, end: Position, now: Instant) {
        self.bytes += operation.raw.len();
        let partition = operation.partition;
        let of_partition = self
            .partitions
            .entry(partition)
            .or_insert_with(|| BatchPartition {
                partition,
                position: end,
                records: BatchRecords::default(),
            });
        of_partition.position = end;
        if matches!(operation.change, Change::Reject(_)) {
            of_partition.records.dead.push(of_partition.records.count);
        }
        if let Some(number) = operation.run {
            of_partition.records.of_runs.push(RunRecord {
                index: of_partition.records.count,
                offset: operation.offset,
                number,
                fetched_at: operation.fetched_at,
            });
        }
        of_partition.records.count += 1;
        self.operations.push(operation);
        self.oldest.get_or_insert(now);
    }

    /// Moves the position of a partition to `end`, before which it has no more records. Returns false if no record of it is
    /// pending.
    pub fn extend(&mut self, partition: i32, end: Position) -> bool {
        let pending = self.partitions.get_mut(&partition);
        pending.map(|pending| pending.position = end).is_some()
    }

    /// Removes the records of a revoked partition. Its next owner reads them again.
    pub fn remove_partition(&mut self, partition: i32) {
        self.operations
            .retain(|operation| operation.partition != partition);
        self.partitions.remove(&partition);
        self.bytes = self.operations.iter().map(|operation| operation.raw.len()).sum();
        if self.operations.is_empty() {
            self.oldest = None;
        }
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Whether a flush must come before the next record.
    pub fn is_full(&self) -> bool {
        self.operations.len() >= self.max_rows || self.bytes >= self.max_bytes
    }

    /// When the oldest record reaches `batch.max_age`.
    pub fn due(&self) -> Option<Instant> {
        self.oldest.map(|oldest| oldest + self.max_age)
    }

    /// Returns the reason to flush now. `writing` is the number of micro-batches in flight.
    pub fn trigger(&self, now: Instant, writing: usize) -> Option<FlushTrigger> {
        if self.is_empty() {
            None
        } else if self.operations.len() >= self.max_rows {
            Some(FlushTrigger::Rows)
        } else if self.bytes >= self.max_bytes {
            Some(FlushTrigger::Bytes)
        } else if writing <= 1 {
            Some(FlushTrigger::Idle)
        } else if self.due().is_some_and(|due| due <= now) {
            Some(FlushTrigger::Age)
        } else {
            None
        }
    }

    /// Returns the collected records as a micro-batch.
    pub fn flush(&mut self, id: u64, trigger: FlushTrigger) -> MicroBatch {
        MicroBatch {
            id,
            received: self.oldest.take(),
            operations: std::mem::take(&mut self.operations),
            partitions: std::mem::take(&mut self.partitions).into_values().collect(),
            trigger,
            bytes: std::mem::take(&mut self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::consumed_record::Rejection;
    use crate::pipeline::write_timestamp::MaxSeen;

    fn operation(partition: i32, offset: i64) -> Operation {
        let change = Change::Reject(Rejection {
            reason: "test",
            error: String::new(),
        });
        let raw = RawRecord::copy(Some(&[0; 100]), None, std::iter::empty());
        Operation {
            partition,
            offset,
            timestamp: 0,
            write_timestamp: 0,
            change,
            run: None,
            fetched_at: None,
            raw,
        }
    }

    fn end(next_offset: i64) -> Position {
        Position {
            next_offset,
            leader_epoch: None,
            last_write_timestamp: None,
            max_seen: MaxSeen::default(),
            dead_letters: crate::dead_letters::stats::DeadLetterStats::default(),
        }
    }

    fn builder(settings: &BatchSettings, rows: i64) -> BatchBuilder {
        let mut builder = BatchBuilder::new(settings);
        for offset in 0..rows {
            builder.push(operation(0, offset), end(offset + 1), Instant::now());
        }
        builder
    }

    #[test]
    fn batch_is_flushed_at_once_while_one_is_in_flight() {
        let builder = builder(&BatchSettings::default(), 1);
        assert_eq!(builder.trigger(Instant::now(), 0), Some(FlushTrigger::Idle));
        assert_eq!(builder.trigger(Instant::now(), 1), Some(FlushTrigger::Idle));
        assert_eq!(builder.trigger(Instant::now(), 2), None);
        assert_eq!(
            BatchBuilder::new(&BatchSettings::default()).trigger(Instant::now(), 0),
            None
        );
    }

    #[test]
    fn rows_bytes_and_age_each_trigger_a_flush() {
        let settings = BatchSettings {
            max_rows: 3,
            ..BatchSettings::default()
        };
        assert_eq!(
            builder(&settings, 3).trigger(Instant::now(), 9),
            Some(FlushTrigger::Rows)
        );
        let settings = BatchSettings {
            max_bytes: bytesize::ByteSize(200),
            ..BatchSettings::default()
        };
        assert_eq!(
            builder(&settings, 2).trigger(Instant::now(), 9),
            Some(FlushTrigger::Bytes)
        );
        let old = builder(&BatchSettings::default(), 1);
        assert_eq!(old.trigger(old.due().unwrap(), 9), Some(FlushTrigger::Age));
    }

    #[test]
    fn flush_returns_each_partitions_last_position() {
        let mut builder = builder(&BatchSettings::default(), 2);
        builder.push(operation(1, 7), end(8), Instant::now());
        let batch = builder.flush(5, FlushTrigger::Idle);
        let partitions = [(0, end(2), vec![0, 1]), (1, end(8), vec![0])];
        let partitions = partitions.map(|(partition, position, dead)| BatchPartition {
            partition,
            position,
            records: BatchRecords {
                count: dead.len(),
                dead,
                of_runs: Vec::new(),
            },
        });
        assert_eq!(batch.partitions, partitions);
        assert_eq!((batch.operations.len(), batch.bytes), (3, 300));
        assert!(builder.is_empty() && builder.due().is_none());
    }

    #[test]
    fn removed_partition_leaves_no_record_and_no_position() {
        let mut builder = builder(&BatchSettings::default(), 2);
        builder.push(operation(1, 7), end(8), Instant::now());
        builder.remove_partition(0);
        let batch = builder.flush(1, FlushTrigger::Idle);
        assert_eq!(batch.partitions.len(), 1);
        assert_eq!(
            (batch.partitions[0].partition, batch.partitions[0].position),
            (1, end(8))
        );
        assert_eq!((batch.operations.len(), batch.bytes), (1, 100));
    }
}
