//! Records that were sent, and how to recognise them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use model::headers::dead_letter;
use model::{Contract, Key};
use serde::Serialize;
use testkit::kafka_client::TopicRecord;
use testkit::rows::row;
use uuid::Uuid;

/// Partition and offset.
pub(crate) type Position = (i32, i64);

/// An acknowledged record, which the pipeline must not lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AckedRecord {
    /// The key, unless the record has none.
    pub(crate) key: Option<Key>,
    /// The value that was sent; `None` for a deletion.
    pub(crate) value: Option<Vec<u8>>,
    /// The acknowledged position, if it was requested.
    pub(crate) position: Option<Position>,
}

/// An entry of the ingester's run history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct IngesterRun {
    /// As in the records' headers.
    pub(crate) id: String,
    pub(crate) state: String,
    /// Acknowledged records.
    pub(crate) accepted: u64,
    /// The state of its verdict, if it has one.
    pub(crate) verdict: Option<String>,
}

/// A hash of a value that is the same for two encodings of one record.
pub(crate) fn fingerprint(contract: &Contract, value: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match value.map(|value| contract.parse_lenient(value)) {
        Some(Ok(record)) => row(&record).hash(&mut hasher),
        Some(Err(_)) | None => value.hash(&mut hasher),
    }
    hasher.finish()
}

/// The topic id and the position of a dead letter's original record.
pub(crate) fn dead_letter_source(letter: &TopicRecord) -> Option<(Option<Uuid>, Position)> {
    let number = |name| letter.header(name)?.parse::<i64>().ok();
    let partition = i32::try_from(number(dead_letter::PARTITION)?).ok()?;
    let topic = letter
        .header(dead_letter::TOPIC_ID)
        .and_then(|id| Uuid::parse_str(id).ok());
    Some((topic, (partition, number(dead_letter::OFFSET)?)))
}
