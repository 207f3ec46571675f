//! What each record of a topic asks for, according to the record's contract, and what the table must be because of it.

use std::collections::{BTreeMap, HashMap};

use model::headers::kafka::ACCEPTED_AT_US;
use model::{User, UserId};
use uuid::Uuid;

use crate::comparison::row;
use crate::table::UserRow;
use crate::tap::Tapped;

/// What must become of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// This row.
    Row(UserRow),
    /// No row.
    Gone,
    /// A dead letter with this reason.
    Letter(&'static str),
}

/// A record with what must become of it.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) record: &'a Tapped,
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
    pub(super) of: HashMap<Uuid, Vec<usize>>,
}

impl<'a> Log<'a> {
    /// Reads a topic whose records are sorted by partition and offset.
    ///
    /// The stamps: each is the record's timestamp in microseconds, or one more than the stamp before it in its partition.
    pub(super) fn read(records: &'a [Tapped]) -> Self {
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        let mut entries = Vec::with_capacity(records.len());
        let mut of: HashMap<Uuid, Vec<usize>> = HashMap::new();
        for record in records {
            let before = last.get(&record.partition).copied().unwrap_or(-1);
            let stamp = (record.timestamp.unwrap_or(0).max(0) * 1_000).max(before + 1);
            last.insert(record.partition, stamp);
            let (id, fate) = fate(record);
            if let Some(id) = id {
                of.entry(id).or_default().push(entries.len());
            }
            entries.push(Entry {
                record,
                id,
                fate,
                stamp,
            });
        }
        // A user's records lie in one partition, unless partitions were added meanwhile.
        for places in of.values_mut() {
            places.sort_by_key(|place| entries[*place].stamp);
        }
        Self { entries, of }
    }

    /// How many records are no rows.
    pub(super) fn letters(&self) -> usize {
        let letters = self
            .entries
            .iter()
            .filter(|entry| matches!(entry.fate, Fate::Letter(_)));
        letters.count()
    }

    /// The record that decides what each user is.
    pub(super) fn last(&self) -> impl Iterator<Item = (Uuid, &Entry<'a>)> {
        self.of
            .iter()
            .filter_map(|(id, places)| Some((*id, &self.entries[*places.last()?])))
    }

    /// Whether a record of this user with a stamp above `stamp`, appended by `until`, deletes it.
    pub(super) fn is_deleted_after(&self, id: Uuid, stamp: i64, until: i64) -> bool {
        let places = self.of.get(&id).into_iter().flatten();
        places.map(|place| &self.entries[*place]).any(|entry| {
            let appended = entry.record.timestamp.unwrap_or(0);
            entry.fate == Fate::Gone && entry.stamp >= stamp && appended <= until
        })
    }
}

fn fate(record: &Tapped) -> (Option<Uuid>, Fate) {
    let Some(value) = &record.value else {
        return match record.key.as_deref().map(UserId::parse) {
            Some(Ok(id)) => (Some(*id.as_uuid()), Fate::Gone),
            _ => (None, Fate::Letter("tombstone_without_id")),
        };
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
fn ingested_at(record: &Tapped) -> i64 {
    let said = record
        .header(ACCEPTED_AT_US)
        .and_then(|text| text.parse::<i64>().ok());
    match said {
        Some(micros) if micros >= 0 => micros / 1_000,
        _ => record.timestamp.unwrap_or(0).max(0),
    }
}
