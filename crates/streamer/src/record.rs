//! What a Kafka record asks for: a row, a deletion, or a dead letter with the reason.
//!
//! Pure: bytes in, decision out. It does not know where the record goes.

use model::{User, UserId, headers};
use uuid::Uuid;

use crate::raw::Header;
use crate::row::{Row, Shape};
use crate::settings::Tombstones;

/// A record as the consumer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The partition it lies in.
    pub partition: i32,
    /// Kafka's timestamp in milliseconds since 1970; -1: none.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// What a record asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The row of this user is these values.
    Upsert(Row),
    /// The row of this user is gone.
    Delete(UserId),
    /// It can't be a row.
    Refuse(Refusal),
}

impl Change {
    /// Whose row it is about; none, if it can't be one.
    pub fn user(&self) -> Option<Uuid> {
        match self {
            Self::Upsert(row) => Some(row.id()),
            Self::Delete(id) => Some(*id.as_uuid()),
            Self::Refuse(_) => None,
        }
    }
}

/// Why a record can't be a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A short, stable label from a bounded set, for metrics and filters.
    pub reason: &'static str,
    /// Field and rule, for people. Quotes no value.
    pub error: String,
}

/// What is to be counted although the record is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misplaced {
    /// The key is missing or isn't the id.
    pub key: bool,
    /// It lies in another partition than murmur2 of its id says: its order to the user's others is not promised.
    pub partition: bool,
}

/// How records are read.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// How the table holds instants.
    pub shape: Shape,
    /// What a null value means.
    pub tombstones: Tombstones,
    /// Partitions of the topic.
    pub partitions: i32,
}

impl Decoder {
    /// Reads a record. `headers` is asked only for what a row needs.
    pub fn decode<'a>(
        &self,
        incoming: &Incoming<'_>,
        headers: impl Iterator<Item = Header<'a>>,
    ) -> (Change, Misplaced) {
        let Some(value) = incoming.value else {
            return self.tombstone(incoming);
        };
        let user = match User::parse_lenient(value) {
            Ok(user) => user,
            Err(invalid) => {
                let reason = invalid.reason().label();
                return (
                    Change::Refuse(Refusal {
                        reason,
                        error: invalid.to_string(),
                    }),
                    Misplaced::default(),
                );
            }
        };
        let accepted_at = accepted_at(headers, incoming.timestamp);
        let misplaced = self.misplaced(user.id(), incoming);
        (
            Change::Upsert(Row::bind(&user, accepted_at, self.shape)),
            misplaced,
        )
    }

    fn tombstone(&self, incoming: &Incoming<'_>) -> (Change, Misplaced) {
        let refuse = |reason, error: &str| {
            let error = error.to_owned();
            (Change::Refuse(Refusal { reason, error }), Misplaced::default())
        };
        if self.tombstones == Tombstones::DeadLetter {
            return refuse("tombstone", "a null value, which the configuration refuses");
        }
        match incoming.key.map(UserId::parse) {
            Some(Ok(id)) => (Change::Delete(id), self.misplaced(id, incoming)),
            _ => refuse(
                "tombstone_without_id",
                "a null value under a key that is not a user's id",
            ),
        }
    }

    fn misplaced(&self, id: UserId, incoming: &Incoming<'_>) -> Misplaced {
        Misplaced {
            key: incoming.key != Some(id.text().as_bytes()),
            partition: id.partition(self.partitions) != Some(incoming.partition),
        }
    }
}

/// When the publisher took a record; without its word, Kafka's `timestamp`. In milliseconds since 1970.
pub fn accepted_at<'a>(mut found: impl Iterator<Item = Header<'a>>, timestamp: i64) -> i64 {
    found
        .find(|(name, _)| *name == headers::kafka::ACCEPTED_AT_US)
        .and_then(|(_, value)| std::str::from_utf8(value?).ok()?.parse::<i64>().ok())
        .filter(|micros| *micros >= 0)
        .map_or(timestamp.max(0), |micros| micros / 1_000)
}

#[cfg(test)]
#[path = "record/tests.rs"]
mod tests;
