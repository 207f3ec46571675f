//! Kafka and Cassandra as far as one partition needs them: the log, the rows by last write, the checkpoint by last write.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use streamer::checkpoint::Checkpoint;
use uuid::Uuid;

/// What a record asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Row,
    Delete,
    /// It can't be a row.
    Garbage,
    /// It could be one, and Cassandra refuses it.
    Refused,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    /// In microseconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) user: usize,
    pub(crate) kind: Kind,
}

/// Which record: the number of its topic, and its offset.
pub(crate) type Event = (usize, i64);

/// The topic of the moment, of one partition.
pub(crate) struct Topic {
    /// How many there were before it under its name.
    pub(crate) number: usize,
    pub(crate) id: Uuid,
    pub(crate) records: Vec<Record>,
    /// After transaction markers, further than the last record.
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

    /// The records at and after `offset`.
    pub(crate) fn from(&self, offset: i64) -> &[Record] {
        &self.records[self.records.partition_point(|record| record.offset < offset)..]
    }
}

/// The table of users: of two writes of a row the one with the higher timestamp stays.
pub(crate) struct Table {
    pub(crate) id: Uuid,
    rows: BTreeMap<usize, Row>,
    pub(crate) highest: i64,
}

#[derive(Clone, Copy)]
struct Row {
    stamp: i64,
    event: Event,
    kind: Kind,
    /// Two events have this timestamp: Cassandra settles that cell by cell.
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

    pub(crate) fn write(&mut self, user: usize, stamp: i64, event: Event, kind: Kind) {
        self.highest = self.highest.max(stamp);
        let written = Row {
            stamp,
            event,
            kind,
            mixed: false,
        };
        let row = self.rows.entry(user).or_insert(written);
        if stamp > row.stamp {
            *row = written;
        } else if stamp == row.stamp && event != row.event {
            // Only while a replay passes over rows that another one wrote; what comes after it mends that.
            row.mixed = true;
        }
    }

    /// The event whose values the row has; none, if there is no row.
    ///
    /// # Errors
    /// When it is of more than one event.
    pub(crate) fn row(&self, user: usize) -> Result<Option<Event>, String> {
        let Some(row) = self.rows.get(&user) else {
            return Ok(None);
        };
        if row.mixed {
            return Err(format!(
                "the row of user {user} is of several events: {:?} and others",
                row.event
            ));
        }
        Ok((row.kind == Kind::Row).then_some(row.event))
    }
}

/// The one checkpoint, by last write, and everything that is durable.
#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Records that are a row or a dead letter.
    pub(crate) durable: BTreeSet<Event>,
    stamps: HashMap<(usize, i64, i64), i64>,
    first: HashMap<Event, i64>,
}

impl Stored {
    /// # Errors
    /// When two members write different checkpoints under one timestamp: Cassandra would mix them.
    pub(crate) fn store(&mut self, checkpoint: Checkpoint) -> Result<(), String> {
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

    /// A record was stamped by a member that works under `epoch`.
    ///
    /// # Errors
    /// When the same epoch gave it another stamp before, or any reading a lower one the first time.
    pub(crate) fn stamped(&mut self, event: Event, epoch: i64, stamp: i64) -> Result<(), String> {
        let known = *self.stamps.entry((event.0, event.1, epoch)).or_insert(stamp);
        if known != stamp {
            return Err(format!(
                "{event:?} has stamp {known} and {stamp} from checkpoints of one epoch"
            ));
        }
        let first = *self.first.entry(event).or_insert(stamp);
        if stamp > first {
            return Err(format!(
                "{event:?} has stamp {stamp} in a replay, and had {first} the first time"
            ));
        }
        Ok(())
    }
}
