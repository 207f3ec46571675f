//! Producer loops in Python, in a virtual environment in the target folder: the original's, which flushes after each
//! record, and the same loop batched.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use testkit::process::Program;
use testkit::workspace;

use crate::env::child;
use crate::measure::cost::Cost;

const REQUIREMENTS: &str = include_str!("../../peers/python/requirements.txt");
/// For an installation, or one run of a loop.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Holds the installed requirements.
const STAMP: &str = "installed.txt";

/// A producer loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    client: &'static str,
    mode: FlushMode,
    /// Records per second on two cores without another load, roughly. It sizes a run of a given length.
    pub expected_rate: u64,
}

/// When a loop flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlushMode {
    /// After each record, as the original does.
    Each,
    /// At the end, with batches, linger and compression.
    Batched,
}

impl Producer {
    /// The compared loops; the first is the original's.
    pub const ALL: [Self; 4] = [
        Self::new("kafka-python", FlushMode::Each, 800),
        Self::new("kafka-python", FlushMode::Batched, 15_000),
        Self::new("confluent-kafka", FlushMode::Each, 5_000),
        Self::new("confluent-kafka", FlushMode::Batched, 130_000),
    ];

    const fn new(client: &'static str, mode: FlushMode, expected_rate: u64) -> Self {
        Self {
            client,
            mode,
            expected_rate,
        }
    }

    /// The name in tables.
    pub fn name(self) -> String {
        let mode = match self.mode {
            FlushMode::Each => "send and flush each",
            FlushMode::Batched => "batched",
        };
        format!("{}, {mode}", self.client)
    }
}

/// What a loop sends, and where to.
#[derive(Debug, Clone)]
pub struct ClientWorkload<'a> {
    /// `host:port` of a broker.
    pub brokers: &'a str,
    /// An existing topic.
    pub topic: &'a str,
    /// A file of users, one JSON object per line.
    pub users: &'a Path,
    /// Records to send; the first warms up and does not count.
    pub records: u64,
}

/// A Python with both client libraries.
#[derive(Debug, Clone)]
pub struct Python {
    executable: PathBuf,
    script: PathBuf,
}

impl Python {
    /// Creates the virtual environment unless it exists.
    pub async fn install() -> Result<Self> {
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
            child::run("create a virtual environment", environment.log_to(&log), TIMEOUT).await?;
            let libraries = Program::new(&python.executable)
                .args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:"])
                .arg("--requirement")
                .arg(sources.join("requirements.txt"));
            child::run("install Python libraries", libraries.log_to(&log), TIMEOUT).await?;
            fs::write(&stamp, REQUIREMENTS)
                .with_context(|| format!("failed to write {}", stamp.display()))?;
        }
        Ok(python)
    }

    /// Sends the records and returns the cost, without connecting and reading the file.
    pub async fn produce(
        &self,
        producer: Producer,
        workload: &ClientWorkload<'_>,
        log: &Path,
    ) -> Result<Cost> {
        let mode = match producer.mode {
            FlushMode::Each => "each",
            FlushMode::Batched => "batched",
        };
        let program = Program::new(&self.executable)
            .arg(&self.script)
            .args([producer.client, mode, workload.brokers, workload.topic])
            .arg(workload.users)
            .arg(workload.records.to_string());
        child::measure("run the Python producer", program, log, TIMEOUT).await
    }
}
