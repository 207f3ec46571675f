//! A dead letter as read from its topic.

use std::fmt;
use std::str::FromStr;

use model::Reason;
use model::headers::dead_letter as names;
use serde::Serialize;
use uuid::Uuid;

use crate::consumer::scan::ScannedRecord;
use crate::pipeline::raw_record::RawRecord;

/// A dead letter.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    /// Its own position and bytes.
    pub(crate) record: ScannedRecord,
    /// The record that was rejected.
    pub(crate) origin: SourceRecordId,
    /// The topic of that record.
    pub(crate) topic: String,
    /// The label of the reason.
    pub(crate) reason: String,
    /// The error message.
    pub(crate) error: String,
    /// The write timestamp of the record, in microseconds since 1970.
    pub(crate) write_timestamp: i64,
    /// When the dead letter was written.
    pub(crate) at: jiff::Timestamp,
    /// The parts of the record that it lacks, because they did not fit.
    pub(crate) omitted: Option<String>,
}

/// The reasons of the streamer itself. The other ones are the rules of a record, [`Reason::LABELS`].
pub(crate) mod reasons {
    /// A null value, which the settings reject.
    pub(crate) const TOMBSTONE: &str = "tombstone";
    /// A null value with an invalid key.
    pub(crate) const TOMBSTONE_WITHOUT_ID: &str = "tombstone_without_id";
    /// Cassandra rejects the values.
    pub(crate) const REFUSED_BY_CASSANDRA: &str = "refused_by_cassandra";
}

/// All reasons of dead letters.
pub(crate) fn known_reasons() -> impl Iterator<Item = &'static str> {
    let own = [
        reasons::TOMBSTONE,
        reasons::TOMBSTONE_WITHOUT_ID,
        reasons::REFUSED_BY_CASSANDRA,
    ];
    Reason::LABELS.into_iter().chain(own)
}

/// Identifies the rejected record. A record may have several dead letters, because they are written at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SourceRecordId {
    /// Kafka's topic id.
    pub(crate) topic_id: Uuid,
    /// Partition and offset.
    pub(crate) position: PartitionOffset,
}

/// A partition and an offset, formatted as `3:1542`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) struct PartitionOffset {
    /// The partition.
    pub(crate) partition: i32,
    /// The offset.
    pub(crate) offset: i64,
}

impl fmt::Display for PartitionOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.partition, self.offset))
    }
}

impl FromStr for PartitionOffset {
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
            .ok_or("expected PARTITION:OFFSET, such as 3:1542")
    }
}

impl DeadLetter {
    /// Whether a dead letter lacks a part of its record. The producer writes the header after the reason; one before it is
    /// the record's own.
    pub(crate) fn omits_a_part(raw: &RawRecord) -> bool {
        last_index(raw, names::OMITTED) > last_index(raw, names::REASON)
    }

    /// Parses the headers; `None` if the record is not a dead letter.
    pub(crate) fn read(record: ScannedRecord) -> Option<Self> {
        // The last header of a name is the producer's. The original record may have headers of the same names.
        let text = |name: &str| {
            let (_, value) = record
                .raw
                .headers()
                .filter(|(found, _)| *found == name.as_bytes())
                .last()?;
            std::str::from_utf8(value?).ok()
        };
        let origin = SourceRecordId {
            topic_id: text(names::TOPIC_ID)?.parse().ok()?,
            position: PartitionOffset {
                partition: text(names::PARTITION)?.parse().ok()?,
                offset: text(names::OFFSET)?.parse().ok()?,
            },
        };
        Some(Self {
            origin,
            topic: text(names::TOPIC)?.to_owned(),
            reason: text(names::REASON)?.to_owned(),
            error: text(names::ERROR)?.to_owned(),
            write_timestamp: text(names::WRITE_TIMESTAMP)?.parse().ok()?,
            at: text(names::AT)?.parse().ok()?,
            omitted: Self::omits_a_part(&record.raw)
                .then(|| text(names::OMITTED))
                .flatten()
                .map(str::to_owned),
            record,
        })
    }
}

/// The index of the last header of a name.
fn last_index(raw: &RawRecord, name: &str) -> Option<usize> {
    let found = raw.headers().enumerate();
    found
        .filter(|(_, (found, _))| *found == name.as_bytes())
        .map(|(index, _)| index)
        .last()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const TOPIC_ID: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";

    pub(crate) fn scanned(value: Option<&[u8]>, headers: &[(&str, &str)]) -> ScannedRecord {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
        ScannedRecord {
            partition: 0,
            offset: 7,
            timestamp: 1,
            raw: RawRecord::copy(Some(TOPIC_ID.as_bytes()), value, headers),
        }
    }

    pub(crate) fn letter(value: Option<&[u8]>, write_timestamp: i64) -> DeadLetter {
        let write_timestamp = write_timestamp.to_string();
        let headers = [
            ("dlq-offset", "the record's own"),
            ("dlq-reason", "email"),
            ("dlq-error", "email: has no @"),
            ("dlq-topic", "users_created"),
            ("dlq-partition", "3"),
            ("dlq-topic-id", TOPIC_ID),
            ("dlq-offset", "1542"),
            ("dlq-write-timestamp", &write_timestamp),
            ("dlq-at", "2026-05-01T00:00:00Z"),
        ];
        DeadLetter::read(scanned(value, &headers)).unwrap()
    }

    #[test]
    fn the_last_header_of_a_name_is_used() {
        let letter = letter(None, 5);
        assert_eq!(letter.origin.position.to_string(), "3:1542");
        assert_eq!((letter.write_timestamp, letter.reason.as_str()), (5, "email"));
    }

    #[test]
    fn omitted_parts_are_named_by_the_producer_and_not_by_the_record() {
        let headers = |before: &'static str, after: &'static str| {
            let mut headers = vec![(before, "value")];
            headers.extend([
                ("dlq-reason", "email"),
                ("dlq-error", "email: has no @"),
                ("dlq-topic", "users_created"),
                ("dlq-partition", "3"),
                ("dlq-topic-id", TOPIC_ID),
                ("dlq-offset", "1542"),
                ("dlq-write-timestamp", "5"),
                ("dlq-at", "2026-05-01T00:00:00Z"),
            ]);
            headers.push((after, "value"));
            DeadLetter::read(scanned(None, &headers)).unwrap().omitted
        };
        assert_eq!(headers("dlq-omitted", "other"), None);
        assert_eq!(headers("other", "dlq-omitted").as_deref(), Some("value"));
    }

    #[test]
    fn record_without_all_headers_is_not_a_dead_letter() {
        assert!(DeadLetter::read(scanned(None, &[("dlq-reason", "email")])).is_none());
    }

    #[test]
    fn position_is_a_partition_and_an_offset() {
        let position = PartitionOffset {
            partition: 3,
            offset: 1542,
        };
        assert_eq!("3:1542".parse(), Ok(position));
        for wrong in ["3", "3:", ":1", "a:b", "3:1:2"] {
            assert!(wrong.parse::<PartitionOffset>().is_err(), "{wrong}");
        }
    }
}
