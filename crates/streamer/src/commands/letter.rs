//! A dead letter as it lies in its topic: the record it was, where that lay, and why it is here.

use std::fmt;
use std::str::FromStr;

use model::headers::dead_letter as names;
use serde::Serialize;
use uuid::Uuid;

use crate::kafka::scan::Scanned;

/// A dead letter.
#[derive(Debug)]
pub(super) struct Letter {
    /// Its own place and bytes.
    pub(super) record: Scanned,
    /// Which record it was.
    pub(super) origin: Origin,
    /// The topic of that record.
    pub(super) topic: String,
    /// The short name of the reason.
    pub(super) reason: String,
    /// The reason as a sentence.
    pub(super) error: String,
    /// The write timestamp that its row would have had, in microseconds since 1970.
    pub(super) stamp: i64,
    /// When it was set aside.
    pub(super) at: jiff::Timestamp,
}

/// What identifies the record that a dead letter was: letters are written at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Origin {
    /// Kafka's id of its topic.
    pub(super) topic_id: Uuid,
    /// Where in it.
    pub(super) place: Place,
}

/// A partition and an offset, written `3:1542`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(super) struct Place {
    /// The partition.
    pub(super) partition: i32,
    /// The offset.
    pub(super) offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.partition, self.offset))
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = |(partition, offset): (&str, &str)| {
            Some(Self {
                partition: partition.parse().ok()?,
                offset: offset.parse().ok()?,
            })
        };
        text.split_once(':')
            .and_then(read)
            .ok_or("not a partition and an offset, such as 3:1542")
    }
}

impl Letter {
    /// Reads what the headers say; none, if they are not a dead letter's.
    pub(super) fn read(record: Scanned) -> Option<Self> {
        // The last of a name is ours: the record may have had headers of these names itself.
        let text = |name: &str| {
            let (_, value) = record.raw.headers().filter(|(found, _)| *found == name).last()?;
            std::str::from_utf8(value?).ok()
        };
        let origin = Origin {
            topic_id: text(names::TOPIC_ID)?.parse().ok()?,
            place: Place {
                partition: text(names::PARTITION)?.parse().ok()?,
                offset: text(names::OFFSET)?.parse().ok()?,
            },
        };
        Some(Self {
            origin,
            topic: text(names::TOPIC)?.to_owned(),
            reason: text(names::REASON)?.to_owned(),
            error: text(names::ERROR)?.to_owned(),
            stamp: text(names::WRITE_TIMESTAMP)?.parse().ok()?,
            at: text(names::AT)?.parse().ok()?,
            record,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::raw::RawRecord;

    const TOPIC_ID: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";

    pub(crate) fn scanned(value: Option<&[u8]>, headers: &[(&str, &str)]) -> Scanned {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, Some(value.as_bytes())));
        Scanned {
            partition: 0,
            offset: 7,
            timestamp: 1,
            raw: RawRecord::copy(Some(TOPIC_ID.as_bytes()), value, headers),
        }
    }

    pub(crate) fn letter(value: Option<&[u8]>, stamp: i64) -> Letter {
        let stamp = stamp.to_string();
        let headers = [
            ("dlq-offset", "the record's own"),
            ("dlq-reason", "email"),
            ("dlq-error", "email: has no @"),
            ("dlq-topic", "users_created"),
            ("dlq-partition", "3"),
            ("dlq-topic-id", TOPIC_ID),
            ("dlq-offset", "1542"),
            ("dlq-write-timestamp", &stamp),
            ("dlq-at", "2026-05-01T00:00:00Z"),
        ];
        Letter::read(scanned(value, &headers)).unwrap()
    }

    #[test]
    fn a_letter_is_read_from_the_headers_that_were_added_last() {
        let letter = letter(None, 5);
        assert_eq!(letter.origin.place.to_string(), "3:1542");
        assert_eq!((letter.stamp, letter.reason.as_str()), (5, "email"));
    }

    #[test]
    fn what_lacks_a_header_is_no_letter() {
        assert!(Letter::read(scanned(None, &[("dlq-reason", "email")])).is_none());
    }

    #[test]
    fn a_place_is_a_partition_and_an_offset() {
        let place = Place {
            partition: 3,
            offset: 1542,
        };
        assert_eq!("3:1542".parse(), Ok(place));
        for wrong in ["3", "3:", ":1", "a:b", "3:1:2"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
