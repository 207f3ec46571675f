//! Flink with its own Kafka and Cassandra connectors, in one JVM.

use anyhow::Result;

use super::java::{FLINK, Java, add_opens};
use crate::env::cleanup;
use crate::sinks::Sink;
use crate::sinks::running::RunningSink;
use crate::sinks::target::Target;

const SOURCE: &str = include_str!("../../peers/flink/FlinkSink.java");

/// Packages that Flink's own configuration opens on Java 17.
const OPENED: [&str; 7] = [
    "java.base/java.lang",
    "java.base/java.lang.reflect",
    "java.base/java.net",
    "java.base/java.text",
    "java.base/java.time",
    "java.base/java.util",
    "java.base/java.util.concurrent",
];
/// Subtasks of each step.
const PARALLELISM: u32 = 2;
/// Statements in flight for each subtask of the sink.
const IN_FLIGHT: u32 = 1_024;
const CHECKPOINT_INTERVAL_MS: u32 = 10_000;

/// The installed program.
#[derive(Debug, Clone)]
pub struct Flink(Java);

impl Flink {
    /// Fetches and compiles it unless that is done.
    pub async fn install() -> Result<Self> {
        Ok(Self(Java::install(FLINK, "FlinkSink", SOURCE).await?))
    }
}

impl Sink for Flink {
    fn name(&self) -> &str {
        "Flink"
    }

    fn describe(&self) -> String {
        format!(
            "parallelism {PARALLELISM}, {IN_FLIGHT} in flight each, checkpoints every {} s, -Xmx1g, object reuse",
            CHECKPOINT_INTERVAL_MS / 1_000
        )
    }

    fn start(&self, target: &Target) -> Result<RunningSink> {
        let checkpoint = target.folder.join("flink-checkpoint");
        cleanup::remove_folder(&checkpoint)?;
        let mut options = add_opens(&OPENED);
        options.push("-Xmx1g".to_owned());
        let child = target
            .to_environment(self.0.program(options))
            .env("CHECKPOINT", checkpoint)
            .env("PARALLELISM", PARALLELISM.to_string())
            .env("IN_FLIGHT", IN_FLIGHT.to_string())
            .env("CHECKPOINT_MS", CHECKPOINT_INTERVAL_MS.to_string())
            .log_to(target.folder.join("flink.log"))
            .spawn()?;
        Ok(RunningSink::new(vec![child]))
    }
}
