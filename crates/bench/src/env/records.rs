//! Generated records, as the publisher writes them.

use std::ops::Range;

use testkit::kafka_client::ProducerRecord;
use testkit::people::{Person, people};

/// The series of users in backlogs.
pub const BACKLOG_SEED: u64 = 1;

/// The records of a backlog.
pub(super) fn backlog(numbers: Range<u64>) -> Vec<ProducerRecord> {
    people(BACKLOG_SEED, numbers)
        .map(|person| record(&person))
        .collect()
}

/// A user as the publisher writes it.
pub fn record(person: &Person) -> ProducerRecord {
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    ProducerRecord {
        key: Some(person.id.to_string().into_bytes()),
        value: Some(person.json()),
        headers: vec![
            header("content-type", "application/json"),
            header("schema", "affluent.users.v1.User"),
            header("accepted-at-us", "1700000000000000"),
        ],
        ..ProducerRecord::default()
    }
}
