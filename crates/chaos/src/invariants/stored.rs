//! Invariants of stored data: acknowledgements against the topic, the topic against table and dead letters.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::Contract;
use model::headers::{dead_letter, kafka};
use testkit::kafka_client::TopicRecord;
use testkit::rows::{RowId, row};

use super::expected::{ExpectedEntry, ExpectedLog, ExpectedOutcome};
use super::violation::{Invariant, InvariantViolation};
use crate::evidence::Evidence;
use crate::evidence::records::{AckedRecord, dead_letter_source, fingerprint};
use crate::evidence::topic_history::PreviousLog;

pub(super) fn acknowledged(evidence: &Evidence) -> Vec<InvariantViolation> {
    let contract = &evidence.contract.0;
    let by_position: HashMap<_, _> = appended(evidence)
        .map(|record| ((record.partition, record.offset), record))
        .collect();
    let mut by_key: HashMap<&[u8], Vec<&TopicRecord>> = HashMap::new();
    for record in appended(evidence) {
        let key = record.key.as_deref().unwrap_or_default();
        by_key.entry(key).or_default().push(record);
    }
    let mut claims: HashMap<_, usize> = HashMap::new();
    let mut is_stored = |acked: &AckedRecord| match acked.position {
        Some(position) => by_position
            .get(&position)
            .is_some_and(|record| matches(contract, acked, record)),
        None => {
            let key = acked.key.as_ref().map(ToString::to_string).unwrap_or_default();
            let records = by_key.get(key.as_bytes()).into_iter().flatten();
            let stored = records.filter(|record| matches(contract, acked, record)).count();
            // One record satisfies one acknowledgement: two deletions of a key are two records.
            let claimed = claims
                .entry((acked.key.clone(), acked.value.clone()))
                .or_default();
            *claimed += 1;
            *claimed <= stored
        }
    };
    let missing = evidence.acked.iter().filter(|acked| !is_stored(acked));
    missing
        .map(|acked| {
            let key = acked.key.as_ref();
            let key = key.map_or("a record without key".to_owned(), ToString::to_string);
            let subject = format!("{key} at {:?}", acked.position);
            InvariantViolation::new(Invariant::AckedRecordInTopic, subject, "is not in the topic")
        })
        .collect()
}

/// Every record that was ever in the topic, as far as it could be read.
fn appended(evidence: &Evidence) -> impl Iterator<Item = &TopicRecord> {
    evidence.log.iter().chain(&evidence.lost.unread)
}

/// Whether the record is the acknowledged one: the same bytes, or another encoding of the same values.
fn matches(contract: &Contract, acked: &AckedRecord, record: &TopicRecord) -> bool {
    match (&acked.value, &record.value) {
        (None, None) => {
            let key = acked.key.as_ref();
            key.is_none_or(|key| record.key.as_deref() == Some(key.text().as_bytes()))
        }
        (Some(sent), Some(found)) => {
            sent == found
                || match (contract.parse_lenient(sent), contract.parse_lenient(found)) {
                    (Ok(sent), Ok(found)) => {
                        RowId::of(&sent) == RowId::of(&found) && row(&sent) == row(&found)
                    }
                    _ => false,
                }
        }
        _ => false,
    }
}

/// The sequence number within a run distinguishes records from repeated ones.
pub(super) fn run_history(evidence: &Evidence) -> Vec<InvariantViolation> {
    let mut numbers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for record in appended(evidence) {
        if let (Some(run), Some(number)) = (record.header(kafka::RUN_ID), record.header(kafka::RUN_SEQ)) {
            numbers.entry(run).or_default().insert(number);
        }
    }
    let short = evidence.runs.iter().filter_map(|run| {
        let found = numbers.get(run.id.as_str()).map_or(0, BTreeSet::len) as u64;
        (found < run.accepted).then(|| {
            let subject = format!("run {}, {}", run.id, run.state);
            let text = format!("{found} in the topic, {} accepted", run.accepted);
            InvariantViolation::new(Invariant::RunHistoryInTopic, subject, text)
        })
    });
    short.collect()
}

/// Every record is stored, and was sent.
pub(super) fn records(evidence: &Evidence, log: &ExpectedLog<'_>) -> Vec<InvariantViolation> {
    let letters = evidence.dead_letters.iter();
    let letters: BTreeSet<_> = letters
        .filter_map(|letter| evidence.lost.source(letter))
        .collect();
    let runs: BTreeSet<_> = evidence.runs.iter().map(|run| run.id.as_str()).collect();
    let mut found = Vec::new();
    for entry in &log.entries {
        let durable = match &entry.outcome {
            ExpectedOutcome::DeadLetter(_) | ExpectedOutcome::Redriven(_) => {
                letters.contains(&entry.position())
            }
            ExpectedOutcome::Row(id, _) => {
                let row = evidence.rows.get(id);
                let timestamp = row.and_then(|row| row.stamps.values().max());
                timestamp.is_some_and(|timestamp| *timestamp >= entry.timestamp)
                    || log.is_deleted_after(id, entry.timestamp, i64::MAX)
            }
            // A deletion leaves nothing; `rows` checks that no older row is left.
            ExpectedOutcome::Expired(_) | ExpectedOutcome::Deleted => true,
        };
        if !durable {
            let text = if entry.outcome.dead_letter().is_some() {
                "has no dead letter"
            } else {
                "has no row"
            };
            found.push(InvariantViolation::new(
                Invariant::NoRecordSkipped,
                entry.name(),
                text,
            ));
        }
        let run = entry.record.header(kafka::RUN_ID);
        let sent = match run.filter(|run| runs.contains(run)) {
            // The oracle does not know the records of the ingester.
            Some(_) => true,
            None if entry.outcome.deletes() => entry
                .key
                .as_ref()
                .is_some_and(|key| evidence.sent_keys.contains(key)),
            None => {
                let fingerprint = fingerprint(&evidence.contract.0, entry.record.value.as_deref());
                evidence.sent_fingerprints.contains(&fingerprint)
            }
        };
        if !sent {
            let text = "was never sent";
            found.push(InvariantViolation::new(
                Invariant::NoUnknownData,
                entry.name(),
                text,
            ));
        }
    }
    found
}

/// The rows are exactly the last records of each primary key, with the log's write timestamps.
pub(super) fn rows(evidence: &Evidence, log: &ExpectedLog<'_>) -> Vec<InvariantViolation> {
    let mut found = Vec::new();
    let last = log.last();
    for (id, entry) in &last {
        let mut violate = |invariant, text: String| {
            found.push(InvariantViolation::new(invariant, entry.name(), text));
        };
        let (expected, row) = match (&entry.outcome, evidence.rows.get(*id)) {
            (ExpectedOutcome::Row(_, expected), Some(row)) => (expected, row),
            (ExpectedOutcome::Row(..), None) => {
                violate(Invariant::RowIsLastRecord, "its row is missing".to_owned());
                continue;
            }
            (_, Some(_)) => {
                violate(Invariant::RowIsLastRecord, "its row still exists".to_owned());
                continue;
            }
            (_, None) => continue,
        };
        let columns: BTreeSet<_> = expected.keys().chain(row.columns.keys()).collect();
        let mut columns = columns.into_iter();
        if let Some(column) = columns.find(|column| expected.get(*column) != row.columns.get(*column)) {
            violate(Invariant::RowIsLastRecord, format!("its row differs in {column}"));
        }
        let wrong = row.stamps.iter().find(|(_, stamp)| **stamp != entry.timestamp);
        if let Some((column, timestamp)) = wrong {
            let text = format!("{column} is written at {timestamp}, not at {}", entry.timestamp);
            violate(Invariant::WriteTimestampFromLog, text);
        }
    }
    let unknown = evidence.rows.keys().filter(|id| !last.contains_key(id));
    found.extend(unknown.map(|id| {
        InvariantViolation::new(Invariant::NoUnknownData, id.to_string(), "a row without a record")
    }));
    found
}

/// Every dead letter is an invalid record, complete, with the right reason and position.
pub(super) fn dead_letters(evidence: &Evidence, log: &ExpectedLog<'_>) -> Vec<InvariantViolation> {
    let entries: HashMap<_, _> = log.entries.iter().map(|it| (it.position(), it)).collect();
    let mut found = Vec::new();
    for letter in &evidence.dead_letters {
        let invariant = Invariant::DeadLetterIsValid;
        let source = evidence.lost.source(letter);
        let Some(entry) = source.and_then(|position| entries.get(&position)) else {
            let subject = format!("dead letter {}:{}", letter.partition, letter.offset);
            found.push(InvariantViolation::new(
                invariant,
                subject,
                "has no record in the topic",
            ));
            continue;
        };
        let reason = letter.header(dead_letter::REASON);
        match entry.outcome.dead_letter() {
            Some(expected) if reason == Some(expected) => {}
            Some(expected) => {
                let text = format!("has the reason {reason:?}, not {expected}");
                found.push(InvariantViolation::new(invariant, entry.name(), text));
            }
            None => found.push(InvariantViolation::new(
                invariant,
                entry.name(),
                "a valid record was rejected",
            )),
        }
        if !is_complete(evidence, letter, entry) {
            let text = "the dead letter lacks part of the record, its position, its error or its time";
            found.push(InvariantViolation::new(invariant, entry.name(), text));
        }
        let timestamp = letter
            .header(dead_letter::WRITE_TIMESTAMP)
            .and_then(|text| text.parse().ok());
        if timestamp != Some(entry.timestamp) {
            let text = format!("has the write timestamp {timestamp:?}, not {}", entry.timestamp);
            let invariant = Invariant::WriteTimestampFromLog;
            found.push(InvariantViolation::new(invariant, entry.name(), text));
        }
    }
    found
}

fn is_complete(evidence: &Evidence, letter: &TopicRecord, entry: &ExpectedEntry<'_>) -> bool {
    let mut headers = entry.record.headers.iter();
    letter.key == entry.record.key
        && letter.value == entry.record.value
        && headers.all(|(name, value)| letter.headers.get(name) == Some(value))
        && letter.header(dead_letter::TOPIC) == Some(&evidence.topic)
        && names_topic_id(evidence, letter)
        && letter.header(dead_letter::ERROR).is_some()
        && letter
            .header(dead_letter::AT)
            .is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok())
}

/// Whether the letter has the id of the present or of the previous topic.
fn names_topic_id(evidence: &Evidence, letter: &TopicRecord) -> bool {
    let previous = evidence.lost.previous.as_ref().and_then(PreviousLog::topic_id);
    dead_letter_source(letter)
        .and_then(|(topic, _)| topic)
        .is_some_and(|topic| Some(topic) == evidence.topic_id || Some(topic) == previous)
}
