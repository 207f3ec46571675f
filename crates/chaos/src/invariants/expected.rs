//! The expected outcome of each record, according to the record contract.

use std::collections::{BTreeMap, HashMap};

use model::headers::kafka::ACCEPTED_AT_US;
use model::{User, UserId};
use testkit::cassandra_client::UserRow;
use testkit::comparison::row;
use testkit::kafka_client::TopicRecord;
use uuid::Uuid;

use crate::evidence::Evidence;
use crate::evidence::topic_history::Position;

/// The expected outcome of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Row(UserRow),
    /// No row.
    Deleted,
    /// A dead letter with this reason.
    DeadLetter(&'static str),
    /// A dead letter with this reason, and no row after its redrive.
    Redriven(&'static str),
}

impl Outcome {
    /// The reason of the expected dead letter.
    pub(super) fn dead_letter(&self) -> Option<&'static str> {
        match self {
            Self::DeadLetter(reason) | Self::Redriven(reason) => Some(reason),
            Self::Row(_) | Self::Deleted => None,
        }
    }

    /// Whether it deletes a row, at once or after a redrive.
    pub(super) fn deletes(&self) -> bool {
        matches!(self, Self::Deleted | Self::Redriven(_))
    }
}

/// A record with its expected outcome.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) record: &'a TopicRecord,
    pub(super) id: Option<Uuid>,
    pub(super) outcome: Outcome,
    /// The write timestamp.
    pub(super) timestamp: i64,
}

impl Entry<'_> {
    pub(super) fn position(&self) -> Position {
        (self.record.partition, self.record.offset)
    }

    /// For violations.
    pub(super) fn name(&self) -> String {
        let (partition, offset) = self.position();
        match self.id {
            Some(id) => format!("{partition}:{offset} of {id}"),
            None => format!("{partition}:{offset}"),
        }
    }
}

/// A topic with the expected outcome of each record.
pub(super) struct ExpectedLog<'a> {
    /// Ordered by partition and offset.
    pub(super) entries: Vec<Entry<'a>>,
    /// The entries of each user, ordered by write timestamp.
    pub(super) by_user: HashMap<Uuid, Vec<usize>>,
}

impl<'a> ExpectedLog<'a> {
    /// Reads the round's log, which is ordered by partition and offset.
    ///
    /// A write timestamp is the record's timestamp in microseconds, or one more than the one before it in the partition.
    pub(super) fn of(evidence: &'a Evidence) -> Self {
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        let mut entries = Vec::with_capacity(evidence.log.len());
        let mut by_user: HashMap<Uuid, Vec<usize>> = HashMap::new();
        for record in &evidence.log {
            let before = last.get(&record.partition).copied().unwrap_or(-1);
            let timestamp = (record.timestamp.unwrap_or(0).max(0) * 1_000).max(before + 1);
            last.insert(record.partition, timestamp);
            let (id, outcome) = outcome(record, evidence.tombstones_redriven);
            if let Some(id) = id {
                by_user.entry(id).or_default().push(entries.len());
            }
            entries.push(Entry {
                record,
                id,
                outcome,
                timestamp,
            });
        }
        // A user has one partition, unless partitions were added.
        for indices in by_user.values_mut() {
            indices.sort_by_key(|index| entries[*index].timestamp);
        }
        Self { entries, by_user }
    }

    /// Records that must be dead letters.
    pub(super) fn dead_letters(&self) -> usize {
        let letters = self
            .entries
            .iter()
            .filter(|it| it.outcome.dead_letter().is_some());
        letters.count()
    }

    /// The last entry of each user.
    pub(super) fn last(&self) -> impl Iterator<Item = (Uuid, &Entry<'a>)> {
        self.by_user
            .iter()
            .filter_map(|(id, indices)| Some((*id, &self.entries[*indices.last()?])))
    }

    /// Whether a record of this user, appended by `until` with at least this write timestamp, deletes the row.
    pub(super) fn is_deleted_after(&self, id: Uuid, timestamp: i64, until: i64) -> bool {
        let indices = self.by_user.get(&id).into_iter().flatten();
        indices.map(|index| &self.entries[*index]).any(|entry| {
            let appended = entry.record.timestamp.unwrap_or(0);
            entry.outcome.deletes() && entry.timestamp >= timestamp && appended <= until
        })
    }
}

/// Where tombstones are dead-lettered, so is one without a user, which cannot be redriven.
fn outcome(record: &TopicRecord, tombstones_redriven: bool) -> (Option<Uuid>, Outcome) {
    let Some(value) = &record.value else {
        let id = record.key.as_deref().and_then(|key| UserId::parse(key).ok());
        let outcome = match (&id, tombstones_redriven) {
            (Some(_), false) => Outcome::Deleted,
            (Some(_), true) => Outcome::Redriven("tombstone"),
            (None, false) => Outcome::DeadLetter("tombstone_without_id"),
            (None, true) => Outcome::DeadLetter("tombstone"),
        };
        return (id.map(|id| *id.as_uuid()), outcome);
    };
    match User::parse_lenient(value) {
        Ok(user) => {
            let mut row = row(&user);
            row.insert("ingested_at", ingested_at(record).to_string());
            (Some(*user.id().as_uuid()), Outcome::Row(row))
        }
        Err(invalid) => (None, Outcome::DeadLetter(invalid.reason().label())),
    }
}

/// The publisher's timestamp, or else Kafka's, in milliseconds.
fn ingested_at(record: &TopicRecord) -> i64 {
    let accepted = record
        .header(ACCEPTED_AT_US)
        .and_then(|text| text.parse::<i64>().ok());
    match accepted {
        Some(micros) if micros >= 0 => micros / 1_000,
        _ => record.timestamp.unwrap_or(0).max(0),
    }
}
