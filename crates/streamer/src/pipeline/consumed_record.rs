//! Decodes a Kafka record into a row, a deletion, or a rejection with its reason.
//!
//! Pure. It writes nothing.

use std::sync::Arc;

use ::kafka::headers::Header;
use model::{Contract, Instant, Key, Record, headers};

use crate::config::Tombstones;
use crate::dead_letters::dead_letter::reasons;
use crate::pipeline::row::{Row, RowKey, TableShape};

/// A record as received from the consumer.
#[derive(Clone, Copy, Debug)]
pub struct ConsumedRecord<'a> {
    /// The partition.
    pub partition: i32,
    /// Kafka's timestamp in milliseconds since 1970, or -1 if there is none.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// The change of the table that a record describes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Write this row.
    Upsert(Row),
    /// Delete all rows of this key.
    DeletePartition(Key),
    /// Write a dead letter.
    Reject(Rejection),
}

impl Change {
    /// Returns the key of the row, or of the partition that is deleted, unless the record is rejected.
    pub fn row_key(&self) -> Option<RowKey> {
        match self {
            Self::Upsert(row) => Some(row.key()),
            Self::DeletePartition(key) => Some(RowKey::of_partition(key)),
            Self::Reject(_) => None,
        }
    }
}

/// Why a record can't be a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// A stable label from a bounded set, for metrics and filters.
    pub reason: &'static str,
    /// The field and the violated rule. Quotes no value.
    pub error: String,
}

/// Irregularities that are counted, although the record is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Irregularities {
    /// The Kafka key is missing or is not the canonical text of the record's key.
    pub key: bool,
    /// The partition is not the one that murmur2 assigns to the key, so the order of the key's records is not
    /// guaranteed.
    pub partition: bool,
    /// The record has fields that the contract lacks, and a writer's contract that differs. A newer reader stores them.
    pub unknown_fields: bool,
}

/// Decodes records.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The contract of the records.
    pub contract: Arc<Contract>,
    /// The shape of the table.
    pub shape: TableShape,
    /// The meaning of a null value.
    pub tombstones: Tombstones,
    /// The topic's number of partitions.
    pub partitions: i32,
}

impl Decoder {
    /// Decodes a record. Reads the headers only if the record is a row.
    pub fn decode<'a>(
        &self,
        record: &ConsumedRecord<'_>,
        headers: impl Iterator<Item = Header<'a>>,
    ) -> (Change, Irregularities) {
        let Some(value) = record.value else {
            return self.tombstone(record);
        };
        let parsed = match self.contract.parse_lenient(value) {
            Ok(parsed) => parsed,
            Err(invalid) => {
                let reason = invalid.reason().label();
                return (
                    Change::Reject(Rejection {
                        reason,
                        error: invalid.to_string(),
                    }),
                    Irregularities::default(),
                );
            }
        };
        let headers = RecordHeaders::read(headers);
        let irregularities = Irregularities {
            unknown_fields: self.lacks_fields(&parsed, headers.schema_hash),
            ..self.mismatch(&parsed.key(), record)
        };
        let accepted_at = headers.accepted_at(record.timestamp);
        let row = Row::bind(&parsed, accepted_at, &self.shape);
        (Change::Upsert(row), irregularities)
    }

    fn tombstone(&self, record: &ConsumedRecord<'_>) -> (Change, Irregularities) {
        let reject = |reason, error: &str| {
            let error = error.to_owned();
            (
                Change::Reject(Rejection { reason, error }),
                Irregularities::default(),
            )
        };
        if self.tombstones == Tombstones::DeadLetter {
            return reject(
                reasons::TOMBSTONE,
                "null value, which `tombstones = dead_letter` rejects",
            );
        }
        match record.key.map(|key| self.contract.parse_key(key)) {
            Some(Ok(key)) => {
                let mismatch = self.mismatch(&key, record);
                (Change::DeletePartition(key), mismatch)
            }
            _ => reject(
                reasons::TOMBSTONE_WITHOUT_ID,
                "null value with a key that is not a key of the contract",
            ),
        }
    }

    fn mismatch(&self, key: &Key, record: &ConsumedRecord<'_>) -> Irregularities {
        Irregularities {
            key: record.key != Some(key.text().as_bytes()),
            partition: key.partition(self.partitions) != Some(record.partition),
            unknown_fields: false,
        }
    }

    /// Whether a writer with another contract has set fields that this contract lacks. Other producers send no hash, and
    /// their unknown fields mean nothing.
    fn lacks_fields(&self, record: &Record<'_>, schema_hash: Option<&[u8]>) -> bool {
        record.has_unknown_fields() && schema_hash.is_some_and(|hash| hash != self.contract.hash().as_bytes())
    }
}

/// The headers that the streamer uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordHeaders<'a> {
    accepted_at: Option<&'a [u8]>,
    schema_hash: Option<&'a [u8]>,
}

impl<'a> RecordHeaders<'a> {
    /// Reads the first header of each name.
    pub fn read(headers: impl Iterator<Item = Header<'a>>) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            let slot = if name == headers::kafka::ACCEPTED_AT_US.as_bytes() {
                &mut found.accepted_at
            } else if name == headers::kafka::SCHEMA_HASH.as_bytes() {
                &mut found.schema_hash
            } else {
                continue;
            };
            *slot = slot.or(value);
        }
        found
    }

    /// Returns when the publisher accepted the record, or else Kafka's `timestamp`, or else 1970. In milliseconds since
    /// 1970, at most the end of the year 9999: readers of the table fail at a later one.
    pub fn accepted_at(&self, timestamp: i64) -> i64 {
        let accepted_at = self.accepted_at.and_then(|value| {
            let micros: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
            Some(micros.div_euclid(1_000))
        });
        let valid = |millis: &i64| *millis >= 0 && Instant::from_millis(*millis).is_ok();
        let mut candidates = accepted_at.into_iter().chain([timestamp]);
        candidates.find(valid).unwrap_or(0)
    }
}

#[cfg(test)]
#[path = "consumed_record/tests.rs"]
mod tests;
