//! Flink with its own connectors to Kafka and Cassandra, in one JVM.

use super::java::{self, Java, opened};
use super::{PeerError, remove_leftovers};
use crate::sink::{RunningSink, Sink, SinkConfig, SinkError};

const SOURCE: &str = include_str!("../../peers/flink/FlinkSink.java");

/// What Flink's own configuration opens on Java 17.
const OPENED: [&str; 7] = [
    "java.base/java.lang",
    "java.base/java.lang.reflect",
    "java.base/java.net",
    "java.base/java.text",
    "java.base/java.time",
    "java.base/java.util",
    "java.base/java.util.concurrent",
];

/// Subtasks of each step: the fastest of those tried.
const PARALLELISM: u32 = 2;
/// Statements in flight for each subtask of the sink.
const IN_FLIGHT: u32 = 1_024;
/// The checkpoint interval.
const CHECKPOINT_SECONDS: u32 = 10;

/// An installed Flink.
#[derive(Debug, Clone)]
pub struct Flink {
    java: Java,
}

impl Flink {
    /// Installs Flink unless it is already installed.
    ///
    /// # Errors
    /// When the download or the compilation fails.
    pub async fn install() -> Result<Self, PeerError> {
        let java = Java::install(java::FLINK, "FlinkSink", SOURCE).await?;
        Ok(Self { java })
    }
}

impl Sink for Flink {
    fn name(&self) -> &'static str {
        "Flink"
    }

    fn describe(&self) -> String {
        format!(
            "parallelism {PARALLELISM}, {IN_FLIGHT} in flight each, checkpoints every {CHECKPOINT_SECONDS} s, -Xmx1g, \
             object reuse"
        )
    }

    fn start(&self, config: &SinkConfig) -> Result<RunningSink, SinkError> {
        let checkpoint = config.folder.join("flink-checkpoint");
        remove_leftovers(&checkpoint)?;
        let mut options = opened(&OPENED);
        options.push("-Xmx1g".to_owned());
        let child = self
            .java
            .program(options)
            .env("BROKERS", &config.brokers)
            .env("TOPIC", &config.topic)
            .env("GROUP", &config.group)
            .env("CASSANDRA", config.cassandra.to_string())
            .env("KEYSPACE", &config.keyspace)
            .env("TABLE", &config.table)
            .env("CHECKPOINT", checkpoint)
            .env("PARALLELISM", PARALLELISM.to_string())
            .env("IN_FLIGHT", IN_FLIGHT.to_string())
            .env("CHECKPOINT_MS", (CHECKPOINT_SECONDS * 1_000).to_string())
            .log_to(config.folder.join("flink.log"))
            .spawn()?;
        Ok(RunningSink::new(vec![child]))
    }
}
