//! Benthos between Kafka and Cassandra: the program that also stands beside the publisher, with a configuration of its own.

use std::path::PathBuf;

use super::{PeerError, Tuned};
use crate::publisher::benthos::build;
use crate::sink::{Running, Sink, SinkError, Site};
use testkit::process::Program;
use testkit::workspace;

/// What its sweep varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// Records of a partition that are written together, as an unlogged batch.
    batch: u32,
    /// Batches under way.
    in_flight: u32,
    /// Records of a partition that may be under way before the oldest is acknowledged.
    checkpoint_limit: u32,
}

impl Settings {
    /// The best of the sweep.
    const BEST: Self = Self {
        batch: 32,
        in_flight: 64,
        checkpoint_limit: 4_096,
    };

    fn candidates() -> Vec<Self> {
        let with = |batch, in_flight, checkpoint_limit| Self {
            batch,
            in_flight,
            checkpoint_limit,
        };
        vec![
            with(1, 64, 1_024),
            with(16, 64, 1_024),
            with(16, 128, 4_096),
            with(32, 64, 4_096),
            with(64, 32, 4_096),
        ]
    }

    fn label(self) -> String {
        format!(
            "batches of {}, {} in flight, {} records open a partition",
            self.batch, self.in_flight, self.checkpoint_limit
        )
    }
}

/// An installed Benthos.
#[derive(Debug, Clone)]
pub(super) struct Benthos {
    program: PathBuf,
    config: PathBuf,
    name: String,
    settings: Settings,
}

impl Benthos {
    pub(super) async fn install() -> Result<Self, PeerError> {
        let source = workspace::root()?.join("crates/bench/peers/benthos");
        let folder = workspace::target_dir()?.join("peers");
        Ok(Self {
            program: build(&source, &folder).await?,
            config: source.join("cassandra.yaml"),
            name: "Benthos".to_owned(),
            settings: Settings::BEST,
        })
    }
}

impl Tuned for Benthos {
    type Settings = Settings;

    fn settings() -> Vec<Settings> {
        Settings::candidates()
    }

    fn with(&self, settings: Settings) -> Self {
        Self {
            name: settings.label(),
            settings,
            ..self.clone()
        }
    }
}

impl Sink for Benthos {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        self.settings.label()
    }

    fn start(&self, site: &Site) -> Result<Running, SinkError> {
        let child = Program::new(&self.program)
            .arg("-c")
            .arg(&self.config)
            .env("BROKERS", &site.brokers)
            .env("TOPIC", &site.topic)
            .env("GROUP", &site.group)
            .env("CASSANDRA", site.cassandra.to_string())
            .env("KEYSPACE", &site.keyspace)
            .env("TABLE", &site.table)
            .env("BATCH", self.settings.batch.to_string())
            .env("IN_FLIGHT", self.settings.in_flight.to_string())
            .env("CHECKPOINT_LIMIT", self.settings.checkpoint_limit.to_string())
            .log_to(site.folder.join("benthos.log"))
            .spawn()?;
        Ok(Running::new(vec![child]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sweep_tells_its_settings_apart_and_holds_the_best_of_them() {
        let candidates = Settings::candidates();
        let labels: std::collections::BTreeSet<_> = candidates.iter().map(|it| it.label()).collect();
        assert_eq!(labels.len(), candidates.len());
        assert!(candidates.contains(&Settings::BEST));
    }
}
