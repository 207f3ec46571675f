//! What the peers' bench works with: users of every shape that the contract allows, a topic with them, and the rows that a
//! sink has made of it, held column by column against the topic.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::PeerError;
use crate::drain::drain;
use crate::error::BenchError;
use crate::field::{Field, outgoing};
use crate::sink::Sink;
use testkit::cassandra_client::{CassandraClient, CassandraClientError};
use testkit::comparison::{differences, expected};
use testkit::kafka_client::{KafkaClientError, TopicRecord};
use testkit::people::{Person, people};
use testkit::servers::ServerError;

/// No other bench has this series.
const SEED: u64 = 7;

/// The peers could not be compared, or one of them stores something else than the topic holds.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum RigError {
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    CassandraClient(#[from] CassandraClientError),
    #[error(transparent)]
    KafkaClient(#[from] KafkaClientError),
    #[error("cannot use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{who}: what it has written is not what it has read:\n{}", told.join("\n"))]
    Differs { who: String, told: Vec<String> },
}

/// Users with what a careless sink stumbles over: apostrophes, letters beyond ASCII, births before 1970.
pub(super) fn awkward(records: u64) -> impl Iterator<Item = Person> {
    people(SEED, 0..records).zip(0_u64..).map(|(mut person, number)| {
        if number % 3 == 0 {
            "Zoë Ó'Brien".clone_into(&mut person.texts[0]);
            "بهرامی".clone_into(&mut person.texts[1]);
        }
        if number % 5 == 0 {
            person.dob = -person.dob - 1;
        }
        person
    })
}

/// Creates the topic with so many of them.
pub(super) async fn fill(field: &Field, topic: &str, records: u64) -> Result<(), RigError> {
    field.stack.kafka.create_topic(topic, 6).await?;
    let records: Vec<_> = awkward(records).map(|person| outgoing(&person)).collect();
    field.tap.write(topic, &records).await?;
    Ok(())
}

/// The same users as a file, one a line.
pub(crate) fn write_users(path: &Path, records: u64) -> Result<(), RigError> {
    let mut lines = Vec::new();
    for person in awkward(records) {
        lines.extend(person.json());
        lines.push(b'\n');
    }
    std::fs::write(path, lines).map_err(|source| RigError::File {
        path: path.to_path_buf(),
        source,
    })
}

/// Has a sink store the whole topic in a new table, and holds every column of every row against the topic.
pub(super) async fn check(field: &mut Field, sink: &dyn Sink, topic: &str) -> Result<usize, RigError> {
    let log = field.tap.read(topic).await?;
    let records = u64::try_from(log.len()).unwrap_or(u64::MAX);
    let (_, site) = drain(field, sink, topic, records).await?;
    let table =
        CassandraClient::connect(&field.stack.cassandra.contact_points(), site.keyspace.as_str()).await?;
    let found = table.users().await?;
    let mut told = differences(&expected(&log), &found);
    let undated = found.iter().filter(|(_, row)| !row.contains_key("ingested_at"));
    told.extend(undated.take(10).map(|(id, _)| format!("{id} has no ingested_at")));
    field.drop_keyspace(&site.keyspace).await?;
    verdict(sink.name(), told)?;
    Ok(found.len())
}

/// Holds what a producer has written against the users it was given.
pub(super) fn compare(who: &str, log: &[TopicRecord], given: &[TopicRecord]) -> Result<usize, RigError> {
    let mut told = differences(&expected(given), &expected(log));
    let strange = log
        .iter()
        .filter(|record| !given.iter().any(|it| it.key == record.key));
    told.extend(
        strange
            .take(10)
            .map(|it| format!("offset {} has a strange key", it.offset)),
    );
    if log.len() != given.len() {
        told.push(format!("{} records of {}", log.len(), given.len()));
    }
    verdict(who, told)?;
    Ok(log.len())
}

fn verdict(who: &str, told: Vec<String>) -> Result<(), RigError> {
    if told.is_empty() {
        return Ok(());
    }
    Err(RigError::Differs {
        who: who.to_owned(),
        told,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awkward_users_are_valid_and_awkward() {
        let users: Vec<_> = awkward(15).collect();
        for user in &users {
            assert!(model::User::parse_strict(&user.json()).is_ok(), "{}", user.id);
        }
        assert!(users[0].texts[0].contains('\'') && users[0].dob < 0);
        assert!(users[1].dob > 0 && users[1].texts[0].is_ascii());
    }

    #[test]
    fn a_record_that_a_producer_has_lost_or_changed_is_told() {
        let record = |offset: i64, value: Vec<u8>| TopicRecord {
            partition: 0,
            offset,
            timestamp: None,
            key: None,
            value: Some(value),
            headers: std::collections::BTreeMap::new(),
        };
        let users: Vec<_> = awkward(2).collect();
        let given = [record(0, users[0].json()), record(1, users[1].json())];
        assert_eq!(compare("it", &given, &given).ok(), Some(2));
        let changed = String::from_utf8(users[1].json())
            .unwrap()
            .replace("female", "male");
        let changed = [given[0].clone(), record(1, changed.into_bytes())];
        assert!(compare("it", &changed, &given).is_err());
        assert!(compare("it", &given[..1], &given).is_err());
    }
}
