//! The expected outcome of each record, according to the record contract.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::Key;
use model::headers::kafka::ACCEPTED_AT_US;
use testkit::kafka_client::TopicRecord;
use testkit::rows::{INGESTED_AT, Row, RowId, row};

use crate::evidence::Evidence;
use crate::evidence::records::Position;

/// The expected outcome of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExpectedOutcome {
    /// This row.
    Row(RowId, Row),
    /// Not this row, which has expired.
    Expired(RowId),
    /// No row of its key.
    Deleted,
    /// A dead letter with this reason.
    DeadLetter(&'static str),
    /// A dead letter with this reason, and no row of its key after its redrive.
    Redriven(&'static str),
}

impl ExpectedOutcome {
    /// The reason of the expected dead letter.
    pub(super) fn dead_letter(&self) -> Option<&'static str> {
        match self {
            Self::DeadLetter(reason) | Self::Redriven(reason) => Some(reason),
            Self::Row(..) | Self::Expired(_) | Self::Deleted => None,
        }
    }

    /// Whether it deletes the rows of its key, at once or after a redrive.
    pub(super) fn deletes(&self) -> bool {
        matches!(self, Self::Deleted | Self::Redriven(_))
    }
}

/// A record with its expected outcome.
#[derive(Debug)]
pub(super) struct ExpectedEntry<'a> {
    pub(super) record: &'a TopicRecord,
    pub(super) key: Option<Key>,
    pub(super) outcome: ExpectedOutcome,
    /// The write timestamp.
    pub(super) timestamp: i64,
}

impl ExpectedEntry<'_> {
    pub(super) fn position(&self) -> Position {
        (self.record.partition, self.record.offset)
    }

    /// For violations.
    pub(super) fn name(&self) -> String {
        let (partition, offset) = self.position();
        match (&self.outcome, &self.key) {
            (ExpectedOutcome::Row(id, _) | ExpectedOutcome::Expired(id), _) => {
                format!("{partition}:{offset} of {id}")
            }
            (_, Some(key)) => format!("{partition}:{offset} of {key}"),
            (_, None) => format!("{partition}:{offset}"),
        }
    }
}

/// A topic with the expected outcome of each record.
pub(super) struct ExpectedLog<'a> {
    /// Ordered by partition and offset.
    pub(super) entries: Vec<ExpectedEntry<'a>>,
    /// The entries of each key, ordered by write timestamp.
    by_key: HashMap<Key, Vec<usize>>,
}

impl<'a> ExpectedLog<'a> {
    /// Reads the round's log, which is ordered by partition and offset.
    ///
    /// A write timestamp is the record's timestamp in microseconds, or one more than the one before it in the partition. A
    /// recreated topic starts above all partitions of the earlier one. What is read again after a loss has other stamps
    /// than before, above those of its partition.
    pub(super) fn of(evidence: &'a Evidence) -> Self {
        let previous = evidence.lost.previous.as_ref();
        let recreated = previous.filter(|previous| previous.topic_id().is_some());
        let ends = recreated.map(|previous| &previous.ends);
        let is_earlier = |record: &TopicRecord| {
            ends.is_some_and(|ends| record.offset < ends.get(&record.partition).copied().unwrap_or(0))
        };
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        let earlier = evidence.log.iter().filter(|record| is_earlier(record));
        let highest = earlier
            .map(|record| write_timestamp(record, &mut last, -1))
            .max()
            .unwrap_or(-1);
        last.clear();
        let mut entries = Vec::with_capacity(evidence.log.len());
        let mut by_key: HashMap<Key, Vec<usize>> = HashMap::new();
        for record in &evidence.log {
            let above = if is_earlier(record) { -1 } else { highest };
            let timestamp = write_timestamp(record, &mut last, above);
            let (key, outcome) = outcome(evidence, record);
            if let Some(key) = &key {
                by_key.entry(key.clone()).or_default().push(entries.len());
            }
            entries.push(ExpectedEntry {
                record,
                key,
                outcome,
                timestamp,
            });
        }
        // A key has one partition, unless partitions were added.
        for indices in by_key.values_mut() {
            indices.sort_by_key(|index| entries[*index].timestamp);
        }
        Self { entries, by_key }
    }

    /// Records that must be dead letters.
    pub(super) fn dead_letters(&self) -> usize {
        let letters = self
            .entries
            .iter()
            .filter(|it| it.outcome.dead_letter().is_some());
        letters.count()
    }

    /// Records that have expired before they are read.
    pub(super) fn expired(&self) -> usize {
        let expired = self
            .entries
            .iter()
            .filter(|it| matches!(it.outcome, ExpectedOutcome::Expired(_)));
        expired.count()
    }

    /// Records that replace an earlier one of the same row, and deletions.
    pub(super) fn versions(&self) -> usize {
        let of_key = |indices: &Vec<usize>| {
            let rows = indices
                .iter()
                .filter_map(|index| match &self.entries[*index].outcome {
                    ExpectedOutcome::Row(id, _) | ExpectedOutcome::Expired(id) => Some(id),
                    _ => None,
                });
            indices.len() - rows.collect::<BTreeSet<_>>().len().max(1)
        };
        self.by_key.values().map(of_key).sum()
    }

    /// The last entry of each row: its last record, expired or not, or a later deletion of its key.
    pub(super) fn last(&self) -> BTreeMap<&RowId, &ExpectedEntry<'a>> {
        let mut last = BTreeMap::new();
        for indices in self.by_key.values() {
            let mut of_key: BTreeMap<&RowId, &ExpectedEntry<'a>> = BTreeMap::new();
            for entry in indices.iter().map(|index| &self.entries[*index]) {
                if let ExpectedOutcome::Row(id, _) | ExpectedOutcome::Expired(id) = &entry.outcome {
                    of_key.insert(id, entry);
                } else if entry.outcome.deletes() {
                    of_key.values_mut().for_each(|last| *last = entry);
                }
            }
            last.extend(of_key);
        }
        last
    }

    /// Whether a record, appended by `until` with at least this write timestamp, deletes the row or all of its key.
    pub(super) fn is_deleted_after(&self, id: &RowId, timestamp: i64, until: i64) -> bool {
        let indices = self.by_key.get(&id.key).into_iter().flatten();
        indices.map(|index| &self.entries[*index]).any(|entry| {
            let appended = entry.record.timestamp.unwrap_or(0);
            let deletes = match &entry.outcome {
                ExpectedOutcome::Expired(expired) => expired == id,
                outcome => outcome.deletes(),
            };
            deletes && entry.timestamp >= timestamp && appended <= until
        })
    }
}

/// Where tombstones are dead-lettered, so is one without a key, which cannot be redriven.
fn outcome(evidence: &Evidence, record: &TopicRecord) -> (Option<Key>, ExpectedOutcome) {
    let contract = &evidence.contract.0;
    let Some(value) = &record.value else {
        let key = record.key.as_deref().and_then(|key| contract.parse_key(key).ok());
        let outcome = match (&key, evidence.tombstones_redriven) {
            (Some(_), false) => ExpectedOutcome::Deleted,
            (Some(_), true) => ExpectedOutcome::Redriven("tombstone"),
            (None, false) => ExpectedOutcome::DeadLetter("tombstone_without_id"),
            (None, true) => ExpectedOutcome::DeadLetter("tombstone"),
        };
        return (key, outcome);
    };
    match contract.parse_lenient(value) {
        Ok(valid) if is_expired(evidence, record) => {
            (Some(valid.key()), ExpectedOutcome::Expired(RowId::of(&valid)))
        }
        Ok(valid) => {
            let mut row = row(&valid);
            row.insert(INGESTED_AT.to_owned(), ingested_at(record).to_be_bytes().to_vec());
            (Some(valid.key()), ExpectedOutcome::Row(RowId::of(&valid), row))
        }
        Err(invalid) => (None, ExpectedOutcome::DeadLetter(invalid.reason().label())),
    }
}

/// Whether the row has expired when the record is appended. The workload leaves no record in doubt: its records are new,
/// or much older than a row may become.
fn is_expired(evidence: &Evidence, record: &TopicRecord) -> bool {
    evidence.row_ttl.is_some_and(|ttl| {
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        ingested_at(record).saturating_add(ttl) <= record.timestamp.unwrap_or(0)
    })
}

/// The write timestamp of a record that follows the `last` one of its partition, above `above`.
fn write_timestamp(record: &TopicRecord, last: &mut BTreeMap<i32, i64>, above: i64) -> i64 {
    let before = last.get(&record.partition).copied().unwrap_or(-1).max(above);
    let timestamp = (record.timestamp.unwrap_or(0).max(0) * 1_000).max(before + 1);
    last.insert(record.partition, timestamp);
    timestamp
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
