//! Decodes a Kafka record into a row, a deletion, or a rejection with its reason.
//!
//! Pure. It writes nothing.

use model::{User, UserId, headers};
use uuid::Uuid;

use crate::config::Tombstones;
use crate::pipeline::raw_record::Header;
use crate::pipeline::row::{ColumnTypes, UserRow};

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
    Upsert(UserRow),
    /// Delete the row of this user.
    Delete(UserId),
    /// Write a dead letter.
    Reject(Rejection),
}

impl Change {
    /// Returns the user of the row, unless the record is rejected.
    pub fn user(&self) -> Option<Uuid> {
        match self {
            Self::Upsert(row) => Some(row.id()),
            Self::Delete(id) => Some(*id.as_uuid()),
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

/// Mismatches that are counted, although the record is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionMismatch {
    /// The key is missing or is not the id.
    pub key: bool,
    /// The partition is not the one that murmur2 assigns to the id, so the order of the user's records is not
    /// guaranteed.
    pub partition: bool,
}

/// Decodes records.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// The types of the columns that hold instants.
    pub types: ColumnTypes,
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
    ) -> (Change, PartitionMismatch) {
        let Some(value) = record.value else {
            return self.tombstone(record);
        };
        let user = match User::parse_lenient(value) {
            Ok(user) => user,
            Err(invalid) => {
                let reason = invalid.reason().label();
                return (
                    Change::Reject(Rejection {
                        reason,
                        error: invalid.to_string(),
                    }),
                    PartitionMismatch::default(),
                );
            }
        };
        let accepted_at = accepted_at(headers, record.timestamp);
        let mismatch = self.mismatch(user.id(), record);
        (
            Change::Upsert(UserRow::bind(&user, accepted_at, self.types)),
            mismatch,
        )
    }

    fn tombstone(&self, record: &ConsumedRecord<'_>) -> (Change, PartitionMismatch) {
        let reject = |reason, error: &str| {
            let error = error.to_owned();
            (
                Change::Reject(Rejection { reason, error }),
                PartitionMismatch::default(),
            )
        };
        if self.tombstones == Tombstones::DeadLetter {
            return reject(
                "tombstone",
                "null value, which `tombstones = dead_letter` rejects",
            );
        }
        match record.key.map(UserId::parse) {
            Some(Ok(id)) => (Change::Delete(id), self.mismatch(id, record)),
            _ => reject(
                "tombstone_without_id",
                "null value with a key that is not a user's id",
            ),
        }
    }

    fn mismatch(&self, id: UserId, record: &ConsumedRecord<'_>) -> PartitionMismatch {
        PartitionMismatch {
            key: record.key != Some(id.text().as_bytes()),
            partition: id.partition(self.partitions) != Some(record.partition),
        }
    }
}

/// Returns when the publisher accepted a record, or else Kafka's `timestamp`. In milliseconds since 1970.
pub fn accepted_at<'a>(mut headers: impl Iterator<Item = Header<'a>>, timestamp: i64) -> i64 {
    headers
        .find(|(name, _)| *name == headers::kafka::ACCEPTED_AT_US)
        .and_then(|(_, value)| std::str::from_utf8(value?).ok()?.parse::<i64>().ok())
        .filter(|micros| *micros >= 0)
        .map_or(timestamp.max(0), |micros| micros / 1_000)
}

#[cfg(test)]
#[path = "consumed_record/tests.rs"]
mod tests;
