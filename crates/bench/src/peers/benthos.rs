//! Benthos from Kafka to Cassandra: the same program as the publisher's peer, with its own configuration.

use std::path::PathBuf;

use super::PeerError;
use crate::publisher::benthos::build;
use crate::sink::{RunningSink, Sink, SinkConfig, SinkError};
use testkit::process::Program;
use testkit::workspace;

/// Records of a partition in one unlogged batch: the fastest of those tried.
const BATCH: u32 = 32;
/// Batches in flight.
const IN_FLIGHT: u32 = 64;
/// Records of a partition in flight before the oldest is acknowledged.
const CHECKPOINT_LIMIT: u32 = 4_096;

/// An installed Benthos.
#[derive(Debug, Clone)]
pub(super) struct BenthosSink {
    program: PathBuf,
    config: PathBuf,
}

impl BenthosSink {
    pub(super) async fn install() -> Result<Self, PeerError> {
        let source = workspace::root()?.join("crates/bench/peers/benthos");
        let folder = workspace::target_dir()?.join("peers");
        Ok(Self {
            program: build(&source, &folder).await?,
            config: source.join("cassandra.yaml"),
        })
    }
}

impl Sink for BenthosSink {
    fn name(&self) -> &'static str {
        "Benthos"
    }

    fn describe(&self) -> String {
        format!("batches of {BATCH}, {IN_FLIGHT} in flight, {CHECKPOINT_LIMIT} records open a partition")
    }

    fn start(&self, config: &SinkConfig) -> Result<RunningSink, SinkError> {
        let child = Program::new(&self.program)
            .arg("-c")
            .arg(&self.config)
            .env("BROKERS", &config.brokers)
            .env("TOPIC", &config.topic)
            .env("GROUP", &config.group)
            .env("CASSANDRA", config.cassandra.to_string())
            .env("KEYSPACE", &config.keyspace)
            .env("TABLE", &config.table)
            .env("BATCH", BATCH.to_string())
            .env("IN_FLIGHT", IN_FLIGHT.to_string())
            .env("CHECKPOINT_LIMIT", CHECKPOINT_LIMIT.to_string())
            .log_to(config.folder.join("benthos.log"))
            .spawn()?;
        Ok(RunningSink::new(vec![child]))
    }
}
