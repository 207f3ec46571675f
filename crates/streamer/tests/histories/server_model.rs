//! A model of Kafka and Cassandra for one partition: the log, and rows and checkpoint with last write wins.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use streamer::checkpoint::Checkpoint;
use uuid::Uuid;

/// The kind of a record, which determines its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Row,
    Delete,
    /// It cannot be parsed.
    Invalid,
    /// Cassandra rejects its values.
    Rejected,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    /// Microseconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) user: usize,
    pub(crate) kind: Kind,
}

/// Identifies a record by the number of its topic and its offset.
pub(crate) type RecordId = (usize, i64);

/// The present topic, with one partition.
pub(crate) struct Topic {
    /// The number of earlier topics of this name.
    pub(crate) number: usize,
    pub(crate) id: Uuid,
    pub(crate) records: Vec<Record>,
    /// The end offset. Transaction markers put it after the last record.
    pub(crate) end: i64,
}

impl Topic {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            id: Uuid::from_u128(1_000 + number as u128),
            records: Vec::new(),
            end: 0,
        }
    }

    /// Returns the records from `offset`.
    pub(crate) fn from(&self, offset: i64) -> &[Record] {
        &self.records[self.records.partition_point(|record| record.offset < offset)..]
    }
}

/// The table of users. Of two writes of a row, the one with the higher timestamp wins.
pub(crate) struct Table {
    pub(crate) id: Uuid,
    rows: BTreeMap<usize, Row>,
    pub(crate) highest: i64,
}

#[derive(Clone, Copy)]
struct Row {
    write_timestamp: i64,
    record_id: RecordId,
    kind: Kind,
    /// Two records have this timestamp, so Cassandra merges them cell by cell.
    mixed: bool,
}

impl Table {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            id: Uuid::from_u128(1 + number as u128),
            rows: BTreeMap::new(),
            highest: 0,
        }
    }

    pub(crate) fn write(&mut self, user: usize, write_timestamp: i64, record_id: RecordId, kind: Kind) {
        self.highest = self.highest.max(write_timestamp);
        let written = Row {
            write_timestamp,
            record_id,
            kind,
            mixed: false,
        };
        let row = self.rows.entry(user).or_insert(written);
        if write_timestamp > row.write_timestamp {
            *row = written;
        } else if write_timestamp == row.write_timestamp && record_id != row.record_id {
            // This occurs only during a replay over rows of another one. Later records overwrite the row.
            row.mixed = true;
        }
    }

    /// Returns the record whose values the row has, or `None` without a row.
    ///
    /// # Errors
    /// The row has values of several records.
    pub(crate) fn row(&self, user: usize) -> Result<Option<RecordId>, String> {
        let Some(row) = self.rows.get(&user) else {
            return Ok(None);
        };
        if row.mixed {
            return Err(format!(
                "the row of user {user} is of several records: {:?} and others",
                row.record_id
            ));
        }
        Ok((row.kind == Kind::Row).then_some(row.record_id))
    }
}

/// The checkpoint, and the set of durable records.
#[derive(Default)]
pub(crate) struct DurableState {
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Records that are a row or a dead letter.
    pub(crate) durable: BTreeSet<RecordId>,
    timestamps: HashMap<(usize, i64, i64), i64>,
    first: HashMap<RecordId, i64>,
}

impl DurableState {
    /// Writes the checkpoint, unless the present one has a higher timestamp.
    ///
    /// # Errors
    /// Two different checkpoints have the same timestamp, so Cassandra would merge them.
    pub(crate) fn write_checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), String> {
        match self.checkpoint {
            Some(found) if found.write_timestamp() == checkpoint.write_timestamp() && found != checkpoint => {
                Err(format!(
                    "two checkpoints of one timestamp: {found:?} and {checkpoint:?}"
                ))
            }
            Some(found) if found.write_timestamp() >= checkpoint.write_timestamp() => Ok(()),
            _ => {
                self.checkpoint = Some(checkpoint);
                Ok(())
            }
        }
    }

    /// Checks the write timestamp that a member assigns to a record under `epoch`.
    ///
    /// # Errors
    /// The same epoch assigned another one before, or the first read assigned a lower one.
    pub(crate) fn check_write_timestamp(
        &mut self,
        record_id: RecordId,
        epoch: i64,
        write_timestamp: i64,
    ) -> Result<(), String> {
        let known = *self
            .timestamps
            .entry((record_id.0, record_id.1, epoch))
            .or_insert(write_timestamp);
        if known != write_timestamp {
            return Err(format!(
                "{record_id:?} has the write timestamps {known} and {write_timestamp} in one epoch"
            ));
        }
        let first = *self.first.entry(record_id).or_insert(write_timestamp);
        if write_timestamp > first {
            return Err(format!(
                "{record_id:?} has the write timestamp {write_timestamp} in a replay, and {first} at the first read"
            ));
        }
        Ok(())
    }
}
