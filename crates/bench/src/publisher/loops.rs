//! The original's producer loop in Python, and the same loop batched: records from a file straight into Kafka, without HTTP
//! and without looking at them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::peers::PeerError;
use crate::peers::python::{Producer, Python, Work};
use crate::peers::rig::{RigError, write_users};
use crate::usage::Cost;

/// More would be the same ones again.
const USERS: u64 = 10_000;

/// What the loops need, installed.
pub(super) struct Loops {
    python: Python,
    users: PathBuf,
    log: PathBuf,
}

impl Loops {
    /// Installs Python's libraries if need be.
    ///
    /// # Errors
    /// When there is no Python with `venv`, or the index does not give the libraries.
    pub(super) async fn install(folder: &Path) -> Result<Self, RigError> {
        let python = Python::install().await?;
        let users = folder.join("users.jsonl");
        write_users(&users, USERS)?;
        let log = folder.join("python.log");
        Ok(Self { python, users, log })
    }

    /// Each once, for about `length`, in the order of [`Producer::ALL`].
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
            let work = Work {
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
