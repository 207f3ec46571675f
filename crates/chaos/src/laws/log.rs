//! What each record of a topic asks for, according to the record's contract, and what the table must be because of it.

use std::collections::{BTreeMap, HashMap};

use model::headers::kafka::ACCEPTED_AT_US;
use model::{User, UserId};
use uuid::Uuid;

use crate::evidence::Evidence;
use testkit::cassandra_client::UserRow;
use testkit::comparison::row;
use testkit::kafka_client::TopicRecord;

/// What must become of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// This row.
    Row(UserRow),
    /// No row.
    Gone,
    /// A dead letter with this reason.
    Letter(&'static str),
    /// A dead letter with this reason, and no row once it is redriven.
    Redriven(&'static str),
}

impl Fate {
    /// The reason of the dead letter that there must be.
    pub(super) fn letter(&self) -> Option<&'static str> {
        match self {
            Self::Letter(reason) | Self::Redriven(reason) => Some(reason),
            Self::Row(_) | Self::Gone => None,
        }
    }

    /// Whether it takes a row away, sooner or later.
    pub(super) fn deletes(&self) -> bool {
        matches!(self, Self::Gone | Self::Redriven(_))
    }
}

/// A record with what must become of it.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) record: &'a TopicRecord,
    pub(super) id: Option<Uuid>,
    pub(super) fate: Fate,
    /// The write timestamp.
    pub(super) stamp: i64,
}

impl Entry<'_> {
    pub(super) fn place(&self) -> (i32, i64) {
        (self.record.partition, self.record.offset)
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        let (partition, offset) = self.place();
        match self.id {
            Some(id) => format!("{partition}:{offset} of {id}"),
            None => format!("{partition}:{offset}"),
        }
    }
}

/// A whole topic.
pub(super) struct Log<'a> {
    /// In the order of partition and offset.
    pub(super) entries: Vec<Entry<'a>>,
    /// The entries of each user, in the order of their stamps.
    pub(super) by_user: HashMap<Uuid, Vec<usize>>,
}

impl<'a> Log<'a> {
    /// Reads a round's topic, whose records are sorted by partition and offset.
    ///
    /// The stamps: each is the record's timestamp in microseconds, or one more than the stamp before it in its partition.
    pub(super) fn of(evidence: &'a Evidence) -> Self {
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        let mut entries = Vec::with_capacity(evidence.log.len());
        let mut by_user: HashMap<Uuid, Vec<usize>> = HashMap::new();
        for record in &evidence.log {
            let before = last.get(&record.partition).copied().unwrap_or(-1);
            let stamp = (record.timestamp.unwrap_or(0).max(0) * 1_000).max(before + 1);
            last.insert(record.partition, stamp);
            let (id, fate) = fate(record, evidence.deletions_are_redriven);
            if let Some(id) = id {
                by_user.entry(id).or_default().push(entries.len());
            }
            entries.push(Entry {
                record,
                id,
                fate,
                stamp,
            });
        }
        // A user's records lie in one partition, unless partitions were added meanwhile.
        for places in by_user.values_mut() {
            places.sort_by_key(|place| entries[*place].stamp);
        }
        Self { entries, by_user }
    }

    /// How many records are dead letters.
    pub(super) fn letters(&self) -> usize {
        let letters = self.entries.iter().filter(|entry| entry.fate.letter().is_some());
        letters.count()
    }

    /// The record that decides what each user is.
    pub(super) fn last(&self) -> impl Iterator<Item = (Uuid, &Entry<'a>)> {
        self.by_user
            .iter()
            .filter_map(|(id, places)| Some((*id, &self.entries[*places.last()?])))
    }

    /// Whether a record of this user with a stamp above `stamp`, appended by `until`, deletes it.
    pub(super) fn is_deleted_after(&self, id: Uuid, stamp: i64, until: i64) -> bool {
        let places = self.by_user.get(&id).into_iter().flatten();
        places.map(|place| &self.entries[*place]).any(|entry| {
            let appended = entry.record.timestamp.unwrap_or(0);
            entry.fate.deletes() && entry.stamp >= stamp && appended <= until
        })
    }
}

/// Where deletions are set aside, so is one of nobody, and no operator can redrive that.
fn fate(record: &TopicRecord, deletions_are_redriven: bool) -> (Option<Uuid>, Fate) {
    let Some(value) = &record.value else {
        let id = record.key.as_deref().and_then(|key| UserId::parse(key).ok());
        let fate = match (&id, deletions_are_redriven) {
            (Some(_), false) => Fate::Gone,
            (Some(_), true) => Fate::Redriven("tombstone"),
            (None, false) => Fate::Letter("tombstone_without_id"),
            (None, true) => Fate::Letter("tombstone"),
        };
        return (id.map(|id| *id.as_uuid()), fate);
    };
    match User::parse_lenient(value) {
        Ok(user) => {
            let mut row = row(&user);
            row.insert("ingested_at", ingested_at(record).to_string());
            (Some(*user.id().as_uuid()), Fate::Row(row))
        }
        Err(invalid) => (None, Fate::Letter(invalid.reason().label())),
    }
}

/// The publisher's word, else Kafka's; in milliseconds.
fn ingested_at(record: &TopicRecord) -> i64 {
    let said = record
        .header(ACCEPTED_AT_US)
        .and_then(|text| text.parse::<i64>().ok());
    match said {
        Some(micros) if micros >= 0 => micros / 1_000,
        _ => record.timestamp.unwrap_or(0).max(0),
    }
}
