//! Flink with its own connectors to Kafka and Cassandra, in one JVM.

use super::java::{self, Java, opened};
use super::{PeerError, Tuned, forget};
use crate::sink::{Running, Sink, SinkError, Site};

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

/// What its sweep varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// Subtasks of each step.
    parallelism: u32,
    /// Statements under way for each subtask of the sink.
    in_flight: u32,
    /// Between checkpoints, in milliseconds.
    checkpoint_ms: u32,
}

impl Settings {
    /// The best of the sweep.
    const BEST: Self = Self {
        parallelism: 2,
        in_flight: 1_024,
        checkpoint_ms: 10_000,
    };

    fn candidates() -> Vec<Self> {
        let with = |parallelism, in_flight, checkpoint_ms| Self {
            parallelism,
            in_flight,
            checkpoint_ms,
        };
        vec![
            with(1, 1_024, 10_000),
            with(2, 128, 10_000),
            with(2, 1_024, 10_000),
            with(2, 1_024, 60_000),
            with(6, 256, 10_000),
        ]
    }

    fn label(&self) -> String {
        format!(
            "parallelism {}, {} in flight each, checkpoints every {} s",
            self.parallelism,
            self.in_flight,
            self.checkpoint_ms / 1_000
        )
    }
}

/// An installed Flink.
#[derive(Debug, Clone)]
pub struct Flink {
    java: Java,
    name: String,
    settings: Settings,
}

impl Flink {
    /// Installs it if need be.
    ///
    /// # Errors
    /// When Maven does not give it.
    pub async fn install() -> Result<Self, PeerError> {
        Ok(Self {
            java: Java::install(java::FLINK, "FlinkSink", SOURCE).await?,
            name: "Flink".to_owned(),
            settings: Settings::BEST,
        })
    }
}

impl Tuned for Flink {
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

impl Sink for Flink {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        format!("{}, -Xmx1g, object reuse", self.settings.label())
    }

    fn start(&self, site: &Site) -> Result<Running, SinkError> {
        let checkpoint = site.folder.join("flink-checkpoint");
        forget(&checkpoint)?;
        let mut options = opened(&OPENED);
        options.push("-Xmx1g".to_owned());
        let child = self
            .java
            .program(options)
            .env("BROKERS", &site.brokers)
            .env("TOPIC", &site.topic)
            .env("GROUP", &site.group)
            .env("CASSANDRA", site.cassandra.to_string())
            .env("KEYSPACE", &site.keyspace)
            .env("TABLE", &site.table)
            .env("CHECKPOINT", checkpoint)
            .env("PARALLELISM", self.settings.parallelism.to_string())
            .env("IN_FLIGHT", self.settings.in_flight.to_string())
            .env("CHECKPOINT_MS", self.settings.checkpoint_ms.to_string())
            .log_to(site.folder.join("flink.log"))
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
