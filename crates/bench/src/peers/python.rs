//! The original's producer loop in Python, one record sent and flushed after the other, and the same loop batched. In a
//! virtual environment below the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{PeerError, file_error};
use crate::usage::Cost;
use testkit::process::Program;
use testkit::workspace;

const REQUIREMENTS: &str = include_str!("../../peers/python/requirements.txt");
const INSTALL_DEADLINE: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(600);
/// Beside the environment: what is installed in it.
const STAMP: &str = "installed.txt";

/// A client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// What the original uses, in Python alone.
    KafkaPython,
    /// Python over librdkafka.
    ConfluentKafka,
}

/// How the loop goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// A record is flushed before the next is sent, as the original does.
    FlushEach,
    /// Flushed at the end, with batches, linger and compression.
    Batched,
}

/// A producer loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Through this library.
    pub client: Client,
    /// In this way.
    pub habit: Habit,
}

impl Producer {
    /// The loops that are compared; the first is the original's.
    pub const ALL: [Self; 4] = [
        Self::new(Client::KafkaPython, Habit::FlushEach),
        Self::new(Client::KafkaPython, Habit::Batched),
        Self::new(Client::ConfluentKafka, Habit::FlushEach),
        Self::new(Client::ConfluentKafka, Habit::Batched),
    ];

    const fn new(client: Client, habit: Habit) -> Self {
        Self { client, habit }
    }

    /// For tables and pictures.
    pub fn name(self) -> String {
        let habit = match self.habit {
            Habit::FlushEach => "send and flush each",
            Habit::Batched => "batched",
        };
        format!("{}, {habit}", self.client())
    }

    /// Records that it sends each second, roughly, on two cores it need not share with a server at work: so many for each
    /// second that it is to last.
    pub fn pace(self) -> u64 {
        match (self.client, self.habit) {
            (Client::KafkaPython, Habit::FlushEach) => 800,
            (Client::KafkaPython, Habit::Batched) => 15_000,
            (Client::ConfluentKafka, Habit::FlushEach) => 5_000,
            (Client::ConfluentKafka, Habit::Batched) => 130_000,
        }
    }

    /// Whether it waits for each record by itself.
    pub fn flushes_each(self) -> bool {
        self.habit == Habit::FlushEach
    }

    fn client(self) -> &'static str {
        match self.client {
            Client::KafkaPython => "kafka-python",
            Client::ConfluentKafka => "confluent-kafka",
        }
    }

    fn habit(self) -> &'static str {
        match self.habit {
            Habit::FlushEach => "each",
            Habit::Batched => "batched",
        }
    }
}

/// The users of a run: where they go, and a file with one of them a line, as JSON.
#[derive(Debug, Clone)]
pub struct Work<'a> {
    /// `host:port` of a broker.
    pub brokers: &'a str,
    /// The topic, which exists.
    pub topic: &'a str,
    /// The file.
    pub users: &'a Path,
    /// How many of its lines; the first warms up and does not count.
    pub records: u64,
}

/// An installed Python with both libraries.
#[derive(Debug, Clone)]
pub struct Python {
    executable: PathBuf,
    script: PathBuf,
}

impl Python {
    /// Installs it if need be.
    ///
    /// # Errors
    /// When there is no `python3` with `venv`, or the index does not give the libraries.
    pub async fn install() -> Result<Self, PeerError> {
        let folder = workspace::target_dir()?.join("peers").join("python");
        let sources = workspace::root()?.join("crates/bench/peers/python");
        let python = Self {
            executable: folder.join("bin/python"),
            script: sources.join("produce.py"),
        };
        let stamp = folder.join(STAMP);
        if !fs::read_to_string(&stamp).is_ok_and(|found| found == REQUIREMENTS) {
            let log = folder.with_extension("log");
            let environment = Program::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&folder);
            installed("python3 -m venv", environment.log_to(&log)).await?;
            let libraries = Program::new(&python.executable)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--only-binary",
                    ":all:",
                    "--requirement",
                ])
                .arg(sources.join("requirements.txt"));
            installed("pip install", libraries.log_to(&log)).await?;
            fs::write(&stamp, REQUIREMENTS).map_err(file_error(&stamp))?;
        }
        Ok(python)
    }

    /// Sends the users and tells what it cost, without the connecting and the reading of the file.
    ///
    /// # Errors
    /// When a record is not delivered.
    pub async fn produce(&self, producer: Producer, work: &Work<'_>, log: &Path) -> Result<Cost, PeerError> {
        let child = Program::new(&self.executable)
            .arg(&self.script)
            .args([producer.client(), producer.habit(), work.brokers, work.topic])
            .arg(work.users)
            .arg(work.records.to_string())
            .log_to(log)
            .spawn()?;
        let status = child.wait(PATIENCE).await?;
        let cost = serde_json::from_str(&child.last_lines(1)).ok();
        cost.filter(|_| status.success())
            .ok_or_else(|| PeerError::Producer(child.last_lines(10)))
    }
}

async fn installed(what: &'static str, program: Program) -> Result<(), PeerError> {
    let child = program.spawn()?;
    if child.wait(INSTALL_DEADLINE).await?.success() {
        Ok(())
    } else {
        Err(PeerError::Install {
            what,
            log: child.last_lines(10),
        })
    }
}
