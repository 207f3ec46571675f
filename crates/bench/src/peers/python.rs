//! The original's producer loop in Python, flushed for each record and batched.
//!
//! It runs in a virtual environment in the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{PeerError, file_error};
use crate::usage::Cost;
use testkit::process::Program;
use testkit::workspace;

const REQUIREMENTS: &str = include_str!("../../peers/python/requirements.txt");
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(600);
/// File that records the installed packages.
const STAMP: &str = "installed.txt";

/// A client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientLibrary {
    /// The original's client, in pure Python.
    KafkaPython,
    /// Python over librdkafka.
    ConfluentKafka,
}

/// When the loop flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMode {
    /// Before each next record, as in the original.
    FlushEach,
    /// At the end, with batches, linger and compression.
    Batched,
}

/// A producer loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// The client library.
    pub client: ClientLibrary,
    /// The flush mode.
    pub flush_mode: FlushMode,
}

impl Producer {
    /// The compared loops; the first is the original's.
    pub const ALL: [Self; 4] = [
        Self::new(ClientLibrary::KafkaPython, FlushMode::FlushEach),
        Self::new(ClientLibrary::KafkaPython, FlushMode::Batched),
        Self::new(ClientLibrary::ConfluentKafka, FlushMode::FlushEach),
        Self::new(ClientLibrary::ConfluentKafka, FlushMode::Batched),
    ];

    const fn new(client: ClientLibrary, flush_mode: FlushMode) -> Self {
        Self { client, flush_mode }
    }

    /// The display name.
    pub fn name(self) -> String {
        let flush_mode = match self.flush_mode {
            FlushMode::FlushEach => "send and flush each",
            FlushMode::Batched => "batched",
        };
        format!("{}, {flush_mode}", self.client())
    }

    /// Approximate records/s on two idle cores, which determines the number of records.
    pub fn pace(self) -> u64 {
        match (self.client, self.flush_mode) {
            (ClientLibrary::KafkaPython, FlushMode::FlushEach) => 800,
            (ClientLibrary::KafkaPython, FlushMode::Batched) => 15_000,
            (ClientLibrary::ConfluentKafka, FlushMode::FlushEach) => 5_000,
            (ClientLibrary::ConfluentKafka, FlushMode::Batched) => 130_000,
        }
    }

    /// The input of a run.
    pub fn flushes_each(self) -> bool {
        self.flush_mode == FlushMode::FlushEach
    }

    fn client(self) -> &'static str {
        match self.client {
            ClientLibrary::KafkaPython => "kafka-python",
            ClientLibrary::ConfluentKafka => "confluent-kafka",
        }
    }

    fn flush_mode(self) -> &'static str {
        match self.flush_mode {
            FlushMode::FlushEach => "each",
            FlushMode::Batched => "batched",
        }
    }
}

/// The input of a run.
#[derive(Debug, Clone)]
pub struct ProducerJob<'a> {
    /// `host:port` of a broker.
    pub brokers: &'a str,
    /// The topic, which exists.
    pub topic: &'a str,
    /// A file with one user a line, as JSON.
    pub users: &'a Path,
    /// Number of lines to send; the first is warm-up.
    pub records: u64,
}

/// An installed Python with both libraries.
#[derive(Debug, Clone)]
pub struct Python {
    executable: PathBuf,
    script: PathBuf,
}

impl Python {
    /// Installs Python's packages unless already installed.
    ///
    /// # Errors
    /// When `python3` with `venv` is missing or the download fails.
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

    /// Sends the users and returns the cost, without the time to connect and to read the file.
    ///
    /// # Errors
    /// When a record is not delivered.
    pub async fn produce(
        &self,
        producer: Producer,
        work: &ProducerJob<'_>,
        log: &Path,
    ) -> Result<Cost, PeerError> {
        let child = Program::new(&self.executable)
            .arg(&self.script)
            .args([producer.client(), producer.flush_mode(), work.brokers, work.topic])
            .arg(work.users)
            .arg(work.records.to_string())
            .log_to(log)
            .spawn()?;
        let status = child.wait(PRODUCE_TIMEOUT).await?;
        let cost = serde_json::from_str(&child.last_lines(1)).ok();
        cost.filter(|_| status.success())
            .ok_or_else(|| PeerError::Producer(child.last_lines(10)))
    }
}

async fn installed(what: &'static str, program: Program) -> Result<(), PeerError> {
    let child = program.spawn()?;
    if child.wait(INSTALL_TIMEOUT).await?.success() {
        Ok(())
    } else {
        Err(PeerError::Install {
            what,
            log: child.last_lines(10),
        })
    }
}
