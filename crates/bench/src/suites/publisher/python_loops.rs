//! The original's producer loop in Python, and the same loop batched: records from a file straight to Kafka, without
//! HTTP and without validation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use testkit::people::{Person, people};

use crate::measure::cost::Cost;
use crate::peers::python::{ClientWorkload, Producer, Python};

/// Users in the file; they are sent repeatedly.
const USERS: u64 = 10_000;
/// The series of users.
const SEED: u64 = 7;

/// The installed loops.
pub(super) struct PythonLoops {
    python: Python,
    users: PathBuf,
    log: PathBuf,
}

impl PythonLoops {
    /// Installs Python's libraries and writes the file of users.
    pub(super) async fn install(folder: &Path) -> Result<Self> {
        let python = Python::install().await?;
        let users = folder.join("users.jsonl");
        let mut lines = Vec::new();
        for user in edge_case_users(USERS) {
            lines.extend(user.json());
            lines.push(b'\n');
        }
        std::fs::write(&users, lines).with_context(|| format!("failed to write {}", users.display()))?;
        let log = folder.join("python.log");
        Ok(Self { python, users, log })
    }

    /// Runs each loop for about `length`, in the order of [`Producer::ALL`].
    pub(super) async fn run(&self, brokers: &str, topic: &str, length: Duration) -> Result<Vec<Cost>> {
        let mut costs = Vec::new();
        for producer in Producer::ALL {
            let workload = ClientWorkload {
                brokers,
                topic,
                users: &self.users,
                records: producer.expected_rate * length.as_secs().max(1),
            };
            costs.push(self.python.produce(producer, &workload, &self.log).await?);
        }
        Ok(costs)
    }
}

/// Users with apostrophes, letters beyond ASCII, and births before 1970.
fn edge_case_users(count: u64) -> impl Iterator<Item = Person> {
    people(SEED, 0..count).zip(0_u64..).map(|(mut user, number)| {
        if number % 3 == 0 {
            "Zoë Ó'Brien".clone_into(&mut user.texts[0]);
            "بهرامی".clone_into(&mut user.texts[1]);
        }
        if number % 5 == 0 {
            user.instants[0] = -user.instants[0] - 1;
        }
        user
    })
}

#[cfg(test)]
mod tests {
    use model::Contract;

    use super::*;

    #[test]
    fn edge_case_users_are_valid() {
        let users: Vec<_> = edge_case_users(15).collect();
        for user in &users {
            let json = user.json();
            assert!(Contract::user().parse_strict(&json).is_ok(), "{}", user.id);
        }
        assert!(users[0].texts[0].contains('\'') && users[0].instants[0] < 0);
        assert!(users[1].instants[0] > 0 && users[1].texts[0].is_ascii());
    }
}
