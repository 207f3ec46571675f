//! The micro-batch: records that are made durable as one, and the end points that their completion proves.
//!
//! Pure: when to flush is decided here, what flushing means is not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::progress::{Position, Records};
use crate::raw::RawRecord;
use crate::record::Change;
use crate::settings::BatchSettings;

/// One record with its place in the log and its write timestamp.
#[derive(Debug)]
pub struct Operation {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Kafka's timestamp in milliseconds since 1970; -1: none.
    pub timestamp: i64,
    /// The write timestamp in microseconds since 1970.
    pub stamp: i64,
    /// What it asks for.
    pub change: Change,
    /// Its own bytes.
    pub raw: RawRecord,
}

/// A flushed micro-batch.
#[derive(Debug)]
pub struct Batch {
    /// Unique in this process.
    pub id: u64,
    /// Its records; those of one partition in their order.
    pub operations: Vec<Operation>,
    /// Its partitions.
    pub ends: Vec<End>,
    /// What made it flush.
    pub trigger: Trigger,
    /// Bytes of keys, values and headers.
    pub bytes: usize,
}

/// One partition of a micro-batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Which.
    pub partition: i32,
    /// Where it stands once all its records are durable.
    pub position: Position,
    /// Those records.
    pub records: Records,
}

/// What made a micro-batch flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// At most one other was being written: waiting would only cost time.
    Idle,
    /// `batch.max_rows`.
    Rows,
    /// `batch.max_bytes`.
    Bytes,
    /// `batch.max_age`.
    Age,
}

impl Trigger {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Age => "age",
        }
    }
}

/// The micro-batch that is being filled.
#[derive(Debug)]
pub struct Filling {
    max_rows: usize,
    max_bytes: usize,
    max_age: Duration,
    operations: Vec<Operation>,
    ends: BTreeMap<i32, End>,
    bytes: usize,
    oldest: Option<Instant>,
}

impl Filling {
    /// An empty one.
    pub fn new(settings: &BatchSettings) -> Self {
        Self {
            max_rows: settings.max_rows,
            max_bytes: usize::try_from(settings.max_bytes.as_u64()).unwrap_or(usize::MAX),
            max_age: settings.max_age,
            operations: Vec::new(),
            ends: BTreeMap::new(),
            bytes: 0,
            oldest: None,
        }
    }

    /// Adds a record, after which its partition stands at `end`.
    pub fn push(&mut self, operation: Operation, end: Position, now: Instant) {
        self.bytes += operation.raw.len();
        let partition = operation.partition;
        let of_partition = self.ends.entry(partition).or_insert_with(|| End {
            partition,
            position: end,
            records: Records::default(),
        });
        of_partition.position = end;
        if matches!(operation.change, Change::Refuse(_)) {
            of_partition.records.dead.push(of_partition.records.count);
        }
        of_partition.records.count += 1;
        self.operations.push(operation);
        self.oldest.get_or_insert(now);
    }

    /// Forgets the records of a partition that is no longer ours: its next owner reads them again.
    pub fn forget(&mut self, partition: i32) {
        self.operations
            .retain(|operation| operation.partition != partition);
        self.ends.remove(&partition);
        self.bytes = self.operations.iter().map(|operation| operation.raw.len()).sum();
        if self.operations.is_empty() {
            self.oldest = None;
        }
    }

    /// Nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// No more records should be added before a flush.
    pub fn is_full(&self) -> bool {
        self.operations.len() >= self.max_rows || self.bytes >= self.max_bytes
    }

    /// When its age alone makes it flush.
    pub fn due(&self) -> Option<Instant> {
        self.oldest.map(|oldest| oldest + self.max_age)
    }

    /// Why it should be flushed now; `writing` is the number of micro-batches being written.
    pub fn trigger(&self, now: Instant, writing: usize) -> Option<Trigger> {
        if self.is_empty() {
            None
        } else if self.operations.len() >= self.max_rows {
            Some(Trigger::Rows)
        } else if self.bytes >= self.max_bytes {
            Some(Trigger::Bytes)
        } else if writing <= 1 {
            Some(Trigger::Idle)
        } else if self.due().is_some_and(|due| due <= now) {
            Some(Trigger::Age)
        } else {
            None
        }
    }

    /// Takes what is there as a micro-batch.
    pub fn flush(&mut self, id: u64, trigger: Trigger) -> Batch {
        self.oldest = None;
        Batch {
            id,
            operations: std::mem::take(&mut self.operations),
            ends: std::mem::take(&mut self.ends).into_values().collect(),
            trigger,
            bytes: std::mem::take(&mut self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HighMark;
    use crate::record::Refusal;

    fn operation(partition: i32, offset: i64) -> Operation {
        let change = Change::Refuse(Refusal {
            reason: "test",
            error: String::new(),
        });
        let raw = RawRecord::copy(Some(&[0; 100]), None, std::iter::empty());
        Operation {
            partition,
            offset,
            timestamp: 0,
            stamp: 0,
            change,
            raw,
        }
    }

    fn end(next_offset: i64) -> Position {
        Position {
            next_offset,
            last_stamp: None,
            high: HighMark::default(),
            tally: crate::tally::Tally::default(),
        }
    }

    fn filling(settings: &BatchSettings, rows: i64) -> Filling {
        let mut filling = Filling::new(settings);
        for offset in 0..rows {
            filling.push(operation(0, offset), end(offset + 1), Instant::now());
        }
        filling
    }

    #[test]
    fn it_flushes_at_once_while_at_most_one_other_is_written() {
        let filling = filling(&BatchSettings::default(), 1);
        assert_eq!(filling.trigger(Instant::now(), 0), Some(Trigger::Idle));
        assert_eq!(filling.trigger(Instant::now(), 1), Some(Trigger::Idle));
        assert_eq!(filling.trigger(Instant::now(), 2), None);
        assert_eq!(
            Filling::new(&BatchSettings::default()).trigger(Instant::now(), 0),
            None
        );
    }

    #[test]
    fn rows_bytes_and_age_each_make_it_flush() {
        let settings = BatchSettings {
            max_rows: 3,
            ..BatchSettings::default()
        };
        assert_eq!(
            filling(&settings, 3).trigger(Instant::now(), 9),
            Some(Trigger::Rows)
        );
        let settings = BatchSettings {
            max_bytes: bytesize::ByteSize(200),
            ..BatchSettings::default()
        };
        assert_eq!(
            filling(&settings, 2).trigger(Instant::now(), 9),
            Some(Trigger::Bytes)
        );
        let old = filling(&BatchSettings::default(), 1);
        assert_eq!(old.trigger(old.due().unwrap(), 9), Some(Trigger::Age));
    }

    #[test]
    fn a_flush_carries_the_last_end_of_each_partition_and_leaves_nothing() {
        let mut filling = filling(&BatchSettings::default(), 2);
        filling.push(operation(1, 7), end(8), Instant::now());
        let batch = filling.flush(5, Trigger::Idle);
        let ends = [(0, end(2), vec![0, 1]), (1, end(8), vec![0])];
        let ends = ends.map(|(partition, position, dead)| End {
            partition,
            position,
            records: Records {
                count: dead.len(),
                dead,
            },
        });
        assert_eq!(batch.ends, ends);
        assert_eq!((batch.operations.len(), batch.bytes), (3, 300));
        assert!(filling.is_empty() && filling.due().is_none());
    }

    #[test]
    fn a_forgotten_partition_leaves_no_record_and_no_end() {
        let mut filling = filling(&BatchSettings::default(), 2);
        filling.push(operation(1, 7), end(8), Instant::now());
        filling.forget(0);
        let batch = filling.flush(1, Trigger::Idle);
        assert_eq!(batch.ends.len(), 1);
        assert_eq!((batch.ends[0].partition, batch.ends[0].position), (1, end(8)));
        assert_eq!((batch.operations.len(), batch.bytes), (1, 100));
    }
}
