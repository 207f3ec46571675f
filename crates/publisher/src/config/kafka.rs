//! Settings of the Kafka producer and its topic.

use std::collections::BTreeMap;
use std::time::Duration;

use ::kafka::client::{check, login, property};
use model::Contract;
use serde::{Deserialize, Serialize};
use service::Secret;
use service::config::{Endpoints, TopicName, Violations, default_topic};

/// The Kafka producer and its topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaSettings {
    /// Bootstrap servers, each `host:port`; the default port is 9092.
    pub brokers: Endpoints<9092>,
    /// The topic, created if absent; none: the contract's resource and `_created`. An existing topic is not changed.
    pub topic: Option<TopicName>,
    /// The number of partitions of a created topic.
    pub partitions: i32,
    /// The replication factor of a created topic.
    pub replication: i32,
    /// `min.insync.replicas` of a created topic; none: 2 if `replication` is 3 or more, else 1.
    pub min_insync_replicas: Option<i32>,
    /// The retention of a created topic.
    #[serde(with = "service::duration")]
    pub retention: Duration,
    /// The delivery timeout of a record; after it the caller gets 504.
    #[serde(with = "service::duration")]
    pub message_timeout: Duration,
    /// How long a record waits to be batched with others.
    #[serde(with = "service::duration")]
    pub linger: Duration,
    /// How often Kafka is probed.
    #[serde(with = "service::duration")]
    pub probe_interval: Duration,
    /// The timeout of a probe.
    #[serde(with = "service::duration")]
    pub probe_timeout: Duration,
    /// How often librdkafka emits statistics; zero disables them.
    #[serde(with = "service::duration")]
    pub statistics_interval: Duration,
    /// Other properties of librdkafka, such as `security.protocol`; in the environment with `_` instead of `.`.
    /// They may be secrets and are never shown.
    pub properties: BTreeMap<String, Secret>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: Endpoints::local(),
            topic: None,
            partitions: 6,
            replication: 1,
            min_insync_replicas: None,
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            message_timeout: Duration::from_secs(12),
            linger: Duration::from_millis(1),
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(2),
            statistics_interval: Duration::from_secs(5),
            properties: BTreeMap::new(),
        }
    }
}

impl KafkaSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require(self.partitions >= 1, "kafka.partitions", "must be at least 1");
        violations.require(
            (1..=i32::from(i16::MAX)).contains(&self.replication),
            "kafka.replication",
            "must be between 1 and 32767",
        );
        violations.require(
            self.min_insync_replicas
                .is_none_or(|replicas| (1..=self.replication).contains(&replicas)),
            "kafka.min_insync_replicas",
            "must be between 1 and kafka.replication",
        );
        violations.require(
            self.message_timeout >= Duration::from_secs(1),
            "kafka.message_timeout",
            "must be at least 1s, the resolution of librdkafka's timeout",
        );
        violations.require(
            self.linger < self.message_timeout,
            "kafka.linger",
            "must be below kafka.message_timeout",
        );
        let reserved = property::violations(self.properties.keys(), "publisher", &RESERVED);
        violations.extend(reserved);
        violations.extend(login::violations(self.properties()));
    }

    /// Adds each property that librdkafka refuses, and each that names a file that can't be read.
    pub(super) fn check_files(&self, violations: &mut Violations) {
        violations.extend(check::violations(self.properties()));
    }

    /// The names and values of the properties.
    fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties
            .iter()
            .map(|(name, value)| (&**name, value.expose()))
    }

    /// The topic of the contract's records.
    pub(crate) fn topic(&self, contract: &Contract) -> String {
        self.topic
            .clone()
            .unwrap_or_else(|| default_topic(contract))
            .into()
    }

    /// The properties under librdkafka's names.
    pub(crate) fn librdkafka_properties(&self) -> impl Iterator<Item = (String, &Secret)> {
        self.properties
            .iter()
            .map(|(name, value)| (property::canonical(name), value))
    }
}

/// The properties that the publisher sets itself, or that would weaken a guarantee.
const RESERVED: [&str; 14] = [
    "acks",
    "bootstrap.servers",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "linger.ms",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.timeout.ms",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "retries",
    "statistics.interval.ms",
    "transactional.id",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_canonical() {
        assert!(RESERVED.iter().all(|name| property::canonical(name) == *name));
    }
}
