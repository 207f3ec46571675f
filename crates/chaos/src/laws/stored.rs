//! Laws of what is stored: acknowledgements against the topic, the topic against table and dead letters.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use model::User;
use model::headers::{dead_letter, kafka};
use uuid::Uuid;

use super::log::{Fate, Log};
use super::{Law, Violation};
use crate::chronicle::Place;
use crate::evidence::{Evidence, Obligation};
use testkit::comparison::row;
use testkit::kafka_client::TopicRecord;

pub(super) fn acknowledged(evidence: &Evidence) -> Vec<Violation> {
    let by_place: HashMap<_, _> = appended(evidence)
        .map(|record| ((record.partition, record.offset), record))
        .collect();
    let mut by_key: HashMap<&[u8], Vec<&TopicRecord>> = HashMap::new();
    for record in appended(evidence) {
        let key = record.key.as_deref().unwrap_or_default();
        by_key.entry(key).or_default().push(record);
    }
    let mut placeless: HashMap<_, usize> = HashMap::new();
    let mut is_there = |obligation: &Obligation| match obligation.place {
        Some(place) => by_place.get(&place).is_some_and(|record| is(obligation, record)),
        None => {
            let key = obligation.id.map(|id| id.to_string()).unwrap_or_default();
            let records = by_key.get(key.as_bytes()).into_iter().flatten();
            let there = records.filter(|record| is(obligation, record)).count();
            // One record is no two acknowledgements: who deletes a user twice is told of two deletions.
            let claimed = placeless
                .entry((obligation.id, obligation.value.clone()))
                .or_default();
            *claimed += 1;
            *claimed <= there
        }
    };
    let missing = evidence.obligations.iter().filter(|it| !is_there(it));
    missing
        .map(|obligation| {
            let of = format!(
                "{} at {:?}",
                obligation
                    .id
                    .map_or("a record without id".to_owned(), |id| id.to_string()),
                obligation.place
            );
            Violation::new(Law::AcknowledgedIsInTopic, of, "is not in the topic")
        })
        .collect()
}

/// Every record that the topic ever held, as far as it could be read.
fn appended(evidence: &Evidence) -> impl Iterator<Item = &TopicRecord> {
    evidence.log.iter().chain(&evidence.gone.unread)
}

/// What a value says, in one number: the same for two ways to write one user.
pub(crate) fn print(value: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match value.map(User::parse_lenient) {
        Some(Ok(user)) => row(&user).hash(&mut hasher),
        Some(Err(_)) | None => value.hash(&mut hasher),
    }
    hasher.finish()
}

/// Whether `record` is what was promised: the same bytes, or the same user, for a publisher may write it in its own way.
fn is(obligation: &Obligation, record: &TopicRecord) -> bool {
    match (&obligation.value, &record.value) {
        (None, None) => obligation
            .id
            .is_none_or(|id| record.key.as_deref() == Some(id.to_string().as_bytes())),
        (Some(sent), Some(found)) => {
            sent == found
                || match (User::parse_lenient(sent), User::parse_lenient(found)) {
                    (Ok(sent), Ok(found)) => sent.id() == found.id() && row(&sent) == row(&found),
                    _ => false,
                }
        }
        _ => false,
    }
}

/// A record's number within its run tells it from a record that was sent again.
pub(super) fn history(evidence: &Evidence) -> Vec<Violation> {
    let mut numbers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for record in appended(evidence) {
        if let (Some(run), Some(number)) = (record.header(kafka::RUN_ID), record.header(kafka::RUN_SEQ)) {
            numbers.entry(run).or_default().insert(number);
        }
    }
    let short = evidence.runs.iter().filter_map(|run| {
        let found = numbers.get(run.id.as_str()).map_or(0, BTreeSet::len) as u64;
        let law = Law::HistoryIsInTopic;
        let told = || format!("run {}, {}", run.id, run.state);
        (found < run.accepted).then(|| {
            Violation::new(
                law,
                told(),
                format!("{found} in the topic, {} accepted", run.accepted),
            )
        })
    });
    short.collect()
}

/// Every record ends somewhere, and each was sent by somebody.
pub(super) fn records(evidence: &Evidence, log: &Log<'_>) -> Vec<Violation> {
    let letters: BTreeSet<_> = evidence
        .letters
        .iter()
        .filter_map(|letter| place_in(evidence, letter))
        .collect();
    let runs: BTreeSet<_> = evidence.runs.iter().map(|run| run.id.as_str()).collect();
    let mut found = Vec::new();
    for entry in &log.entries {
        let durable = match (&entry.fate, entry.id) {
            (Fate::Letter(_) | Fate::Redriven(_), _) => letters.contains(&entry.place()),
            (Fate::Row(_), Some(id)) => {
                let stamp = evidence.rows.get(&id).and_then(|row| row.stamps.values().max());
                stamp.is_some_and(|stamp| *stamp >= entry.stamp)
                    || log.is_deleted_after(id, entry.stamp, i64::MAX)
            }
            // What a deletion leaves is nothing; that nothing older is left is asked of the rows.
            (Fate::Row(_), None) | (Fate::Gone, _) => true,
        };
        if !durable {
            let what = if entry.fate.letter().is_some() {
                "no dead letter"
            } else {
                "no row"
            };
            found.push(Violation::new(
                Law::NothingIsSkipped,
                entry.name(),
                format!("there is {what} of it"),
            ));
        }
        let sent = match entry.record.header(kafka::RUN_ID) {
            // What the API made up, the oracle has not seen.
            Some(run) => runs.contains(run),
            None if entry.fate.deletes() => entry.id.is_some_and(|id| evidence.minted.contains(&id)),
            None => evidence.sent.contains(&print(entry.record.value.as_deref())),
        };
        if !sent {
            found.push(Violation::new(
                Law::NothingFromNowhere,
                entry.name(),
                "nobody sent it",
            ));
        }
    }
    found
}

/// The rows are the users' last records, at the log's stamps, and there are no others.
pub(super) fn rows(evidence: &Evidence, log: &Log<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (id, entry) in log.last() {
        let Fate::Row(expected) = &entry.fate else {
            if evidence.rows.contains_key(&id) {
                found.push(Violation::new(
                    Law::LastRecordIsRow,
                    entry.name(),
                    "its row is still there",
                ));
            }
            continue;
        };
        let Some(row) = evidence.rows.get(&id) else {
            found.push(Violation::new(
                Law::LastRecordIsRow,
                entry.name(),
                "its row is missing",
            ));
            continue;
        };
        let columns: BTreeSet<_> = expected.keys().chain(row.columns.keys()).collect();
        if let Some(column) = columns
            .iter()
            .find(|column| expected.get(**column) != row.columns.get(**column))
        {
            found.push(Violation::new(
                Law::LastRecordIsRow,
                entry.name(),
                format!("its row differs in {column}"),
            ));
        }
        let wrong = row.stamps.iter().find(|(_, stamp)| **stamp != entry.stamp);
        if let Some((column, stamp)) = wrong {
            let found_stamp = format!("{column} is written at {stamp}, the log says {}", entry.stamp);
            found.push(Violation::new(Law::LogDecidesStamp, entry.name(), found_stamp));
        }
    }
    let strange = evidence.rows.keys().filter(|id| !log.by_user.contains_key(*id));
    found.extend(strange.map(|id| {
        Violation::new(
            Law::NothingFromNowhere,
            id.to_string(),
            "a row that no record made",
        )
    }));
    found
}

/// Every letter is the record that it says, and rightly refused.
pub(super) fn letters(evidence: &Evidence, log: &Log<'_>) -> Vec<Violation> {
    let entries: HashMap<_, _> = log.entries.iter().map(|entry| (entry.place(), entry)).collect();
    let mut found = Vec::new();
    for letter in &evidence.letters {
        let law = Law::LettersAreRight;
        let own = format!("letter {}:{}", letter.partition, letter.offset);
        let Some(entry) = place_in(evidence, letter).and_then(|place| entries.get(&place)) else {
            found.push(Violation::new(law, own, "names no record of the topic"));
            continue;
        };
        let reason = letter.header(dead_letter::REASON);
        match entry.fate.letter() {
            Some(expected) if reason == Some(expected) => {}
            Some(expected) => {
                let said = format!("says {reason:?}, it is {expected}");
                found.push(Violation::new(law, entry.name(), said));
            }
            None => found.push(Violation::new(law, entry.name(), "a valid record was refused")),
        }
        let original = letter.key == entry.record.key
            && letter.value == entry.record.value
            && entry
                .record
                .headers
                .iter()
                .all(|(name, value)| letter.headers.get(name) == Some(value))
            && letter.header(dead_letter::TOPIC) == Some(&evidence.topic)
            && is_of_topic(evidence, letter)
            && letter.header(dead_letter::ERROR).is_some()
            && letter
                .header(dead_letter::AT)
                .is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok());
        if !original {
            found.push(Violation::new(
                law,
                entry.name(),
                "the letter is not the whole record with its place, its reason and its time",
            ));
        }
        let stamp = letter
            .header(dead_letter::WRITE_TIMESTAMP)
            .and_then(|text| text.parse().ok());
        if stamp != Some(entry.stamp) {
            let said = format!("says {stamp:?}, the log says {}", entry.stamp);
            found.push(Violation::new(Law::LogDecidesStamp, entry.name(), said));
        }
    }
    found
}

/// Whether the letter names the topic that there is, or the one that there was before it, by Kafka's id.
fn is_of_topic(evidence: &Evidence, letter: &TopicRecord) -> bool {
    let before = evidence.gone.before.as_ref().map(|(id, _)| *id);
    place_of(letter)
        .and_then(|(topic, _)| topic)
        .is_some_and(|topic| Some(topic) == evidence.topic_id || Some(topic) == before)
}

/// The topic that a letter names, and the place in it.
pub(crate) fn place_of(letter: &TopicRecord) -> Option<(Option<Uuid>, Place)> {
    let number = |name| letter.header(name)?.parse::<i64>().ok();
    let partition = i32::try_from(number(dead_letter::PARTITION)?).ok()?;
    let topic = letter
        .header(dead_letter::TOPIC_ID)
        .and_then(|id| Uuid::parse_str(id).ok());
    Some((topic, (partition, number(dead_letter::OFFSET)?)))
}

/// The same as a place in the round's log.
fn place_in(evidence: &Evidence, letter: &TopicRecord) -> Option<Place> {
    let (topic, place) = place_of(letter)?;
    Some(evidence.gone.place(topic, place))
}
