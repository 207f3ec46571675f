//! The events of a key and their dead letters, as `trace` shows them.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::consumer::scan::ScannedRecord;
use crate::dead_letters::dead_letter::{DeadLetter, PartitionOffset};
use crate::ledger::run_headers::RunHeaders;
use crate::pipeline::consumed_record::{Change, ConsumedRecord, Decoder};

/// A record of the key.
#[derive(Debug, Serialize)]
pub(in crate::admin) struct Event {
    #[serde(flatten)]
    pub(super) position: PartitionOffset,
    /// Kafka's timestamp; `None` if there is none.
    time: Option<Timestamp>,
    /// `upsert`, `delete`, or `dead_letter`.
    change: &'static str,
    /// Why it is a dead letter.
    reason: Option<&'static str>,
    run_id: Option<String>,
    run_seq: Option<u64>,
    /// In microseconds since 1970, computed from the log.
    pub(super) write_timestamp: i64,
    /// The values of a valid record that may be shown.
    pub(super) fields: Option<Map<String, Value>>,
}

impl Event {
    pub(super) fn new(decoder: &Decoder, record: &ScannedRecord, write_timestamp: i64) -> Self {
        let ScannedRecord {
            partition,
            offset,
            timestamp,
            ref raw,
        } = *record;
        let consumed = ConsumedRecord {
            partition,
            timestamp,
            key: raw.key(),
            value: raw.value(),
        };
        let (change, reason) = match decoder.decode(&consumed, raw.headers()).0 {
            Change::Upsert(_) => ("upsert", None),
            Change::DeletePartition(_) => ("delete", None),
            Change::Reject(rejection) => ("dead_letter", Some(rejection.reason)),
        };
        let run = RunHeaders::read(raw.headers(), timestamp).number;
        Self {
            position: PartitionOffset { partition, offset },
            time: record_time(timestamp),
            change,
            reason,
            run_id: run.map(|number| number.run.to_string()),
            run_seq: run.map(|number| number.sequence),
            write_timestamp,
            fields: None,
        }
    }

    pub(super) fn with_fields(self, fields: Option<Map<String, Value>>) -> Self {
        Self { fields, ..self }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            change,
            write_timestamp,
            ..
        } = self;
        write!(
            f,
            "event        {position:<12} {:<24}  {change}",
            text(self.time.as_ref())
        )?;
        if let Some(reason) = self.reason {
            write!(f, " ({reason})")?;
        }
        write!(f, ", write timestamp {write_timestamp}")?;
        if let (Some(run), Some(sequence)) = (&self.run_id, self.run_seq) {
            write!(f, ", record {sequence} of run {run}")?;
        }
        Ok(())
    }
}

/// Returns the time of a record; `None` if it has none.
pub(in crate::admin) fn record_time(millis: i64) -> Option<Timestamp> {
    (millis >= 0)
        .then(|| Timestamp::from_millisecond(millis).ok())
        .flatten()
}

/// The text of a value that may be missing.
pub(in crate::admin) fn text(value: Option<&impl ToString>) -> String {
    value.map_or("-".to_owned(), ToString::to_string)
}

/// A dead letter of the key.
#[derive(Debug, Serialize)]
pub(super) struct TracedLetter {
    /// Its own position in the dead-letter topic.
    #[serde(flatten)]
    position: PartitionOffset,
    /// The position of the rejected record.
    record: PartitionOffset,
    topic: String,
    topic_id: String,
    reason: String,
    error: String,
    at: Timestamp,
    write_timestamp: i64,
    /// The parts of the record that it lacks.
    omitted: Option<String>,
    /// The value as text, if values are requested.
    value: Option<String>,
}

impl TracedLetter {
    pub(super) fn new(letter: &DeadLetter, shows_values: bool) -> Self {
        let value = letter.record.raw.value().filter(|_| shows_values);
        Self {
            position: PartitionOffset {
                partition: letter.record.partition,
                offset: letter.record.offset,
            },
            record: letter.origin.position,
            topic: letter.topic.clone(),
            topic_id: letter.origin.topic_id.to_string(),
            reason: letter.reason.clone(),
            error: letter.error.clone(),
            at: letter.at,
            write_timestamp: letter.write_timestamp,
            omitted: letter.omitted.clone(),
            value: value.map(|value| String::from_utf8_lossy(value).into_owned()),
        }
    }
}

impl fmt::Display for TracedLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            record,
            reason,
            error,
            ..
        } = self;
        write!(
            f,
            "dead letter  {position:<12} {:<24}  of record {record}, {reason}: {error}",
            self.at.to_string()
        )?;
        if let Some(omitted) = &self.omitted {
            write!(f, ", without {omitted}")?;
        }
        if let Some(value) = &self.value {
            write!(f, ", value {}", value.escape_debug())?;
        }
        Ok(())
    }
}
