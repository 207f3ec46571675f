//! The original's producer loop in Python, flushed for each record and batched.
//!
//! The records go from a file to Kafka without HTTP and without validation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::peers::python::{Producer, ProducerJob, Python};
use crate::peers::{PeerError, file_error};
use crate::usage::Cost;
use testkit::people::{Person, people};

/// Seed of the generated users; no other benchmark uses it.
const SEED: u64 = 7;
/// Users in the file; the loops repeat them.
const USERS: u64 = 10_000;

/// The installed loops and the file of users.
pub(super) struct PythonLoops {
    python: Python,
    users: PathBuf,
    log: PathBuf,
}

impl PythonLoops {
    /// Installs Python's packages unless already installed.
    ///
    /// # Errors
    /// When `python3` with `venv` is missing or the download fails.
    pub(super) async fn install(folder: &Path) -> Result<Self, PeerError> {
        let python = Python::install().await?;
        let users = folder.join("users.jsonl");
        write_users(&users, USERS)?;
        let log = folder.join("python.log");
        Ok(Self { python, users, log })
    }

    /// Runs each loop once for about `length`, in the order of [`Producer::ALL`].
    ///
    /// # Errors
    /// When a record is not delivered.
    pub(super) async fn run(
        &self,
        brokers: &str,
        topic: &str,
        length: Duration,
    ) -> Result<Vec<Cost>, PeerError> {
        let mut costs = Vec::new();
        for producer in Producer::ALL {
            let work = ProducerJob {
                brokers,
                topic,
                users: &self.users,
                records: producer.pace() * length.as_secs().max(1),
            };
            costs.push(self.python.produce(producer, &work, &self.log).await?);
        }
        Ok(costs)
    }
}

/// Writes users to a file, one JSON document a line.
fn write_users(path: &Path, records: u64) -> Result<(), PeerError> {
    let mut lines = Vec::new();
    for person in edge_case_users(records) {
        lines.extend(person.json());
        lines.push(b'\n');
    }
    std::fs::write(path, lines).map_err(file_error(path))
}

/// Users with apostrophes, letters beyond ASCII, and births before 1970.
fn edge_case_users(records: u64) -> impl Iterator<Item = Person> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edge_case_users_are_valid() {
        let users: Vec<_> = edge_case_users(15).collect();
        for user in &users {
            assert!(model::User::parse_strict(&user.json()).is_ok(), "{}", user.id);
        }
        assert!(users[0].texts[0].contains('\'') && users[0].dob < 0);
        assert!(users[1].dob > 0 && users[1].texts[0].is_ascii());
    }
}
