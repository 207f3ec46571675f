//! Affluent's streamer as a sink, with its default settings.

use anyhow::Result;
use testkit::service::{Service, ServiceOptions};

use super::Sink;
use super::running::RunningSink;
use super::target::Target;

/// Streamers of one consumer group.
#[derive(Debug, Clone, Copy)]
pub struct Streamer {
    /// Number of processes.
    pub replicas: usize,
}

impl Default for Streamer {
    fn default() -> Self {
        Self { replicas: 1 }
    }
}

impl Streamer {
    /// The settings for a target.
    pub fn options(target: &Target) -> ServiceOptions {
        ServiceOptions::new("streamer", &target.folder)
            .set("kafka.brokers", &target.brokers)
            .set("kafka.topic", &target.topic)
            .set("kafka.group", &target.group)
            .set("cassandra.contact_points", target.cassandra.to_string())
            .set("cassandra.keyspace", &target.keyspace)
            .set("cassandra.replication", &target.replication)
            .set("cassandra.table", &target.table)
    }
}

impl Sink for Streamer {
    fn name(&self) -> &str {
        "affluent"
    }

    fn describe(&self) -> String {
        format!("default settings, replicas {}", self.replicas)
    }

    fn start(&self, target: &Target) -> Result<RunningSink> {
        let start = |replica: usize| {
            let options = Self::options(target).log_name(format!("streamer-{replica}"));
            Ok(Service::start(&options)?)
        };
        let services = (1..=self.replicas).map(start).collect::<Result<_>>()?;
        Ok(RunningSink::from_services(services))
    }
}
