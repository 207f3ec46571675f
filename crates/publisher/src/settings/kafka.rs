//! Where records go, and how: the settings of `kafka`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::ConfigError;
use service::{List, Secret};

use super::refuse_if;

/// Where records go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaSettings {
    /// Some brokers of the cluster, each `host:port`.
    pub brokers: List,
    /// The topic, created if absent. One that exists is left as it is.
    pub topic: String,
    /// Partitions of a topic that is created.
    pub partitions: i32,
    /// Replicas of a topic that is created.
    pub replication: i32,
    /// How many replicas must have a record before it counts as written, in a topic that is created.
    pub min_insync_replicas: i32,
    /// How long a topic that is created keeps its records.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub retention: Duration,
    /// How long the producer tries to write a record before it gives up and the caller hears 504.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub message_timeout: Duration,
    /// How long a record waits for others to share its way to the broker.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub linger: Duration,
    /// How often Kafka is asked whether it is there.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub probe_interval: Duration,
    /// How long it may take to say so.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub probe_timeout: Duration,
    /// How often the producer's own statistics are read; zero is never.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub statistics_interval: Duration,
    /// Further properties of librdkafka, such as `security.protocol`; in the environment `_` stands for `.`.
    /// They may be secrets and are shown nowhere.
    pub properties: BTreeMap<String, Secret>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: List::of(["127.0.0.1:9092"]),
            topic: "users_created".to_owned(),
            partitions: 6,
            replication: 1,
            min_insync_replicas: 1,
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
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        refuse_if(self.brokers.is_empty(), "kafka.brokers", "is empty")?;
        refuse_if(
            !is_topic_name(&self.topic),
            "kafka.topic",
            "is not the name of a topic",
        )?;
        refuse_if(self.partitions < 1, "kafka.partitions", "is below 1")?;
        refuse_if(
            !(1..=i32::from(i16::MAX)).contains(&self.replication),
            "kafka.replication",
            "is not from 1 to 32767",
        )?;
        refuse_if(
            !(1..=self.replication).contains(&self.min_insync_replicas),
            "kafka.min_insync_replicas",
            "is not from 1 to kafka.replication",
        )?;
        refuse_if(self.retention.is_zero(), "kafka.retention", "is zero")?;
        refuse_if(
            self.message_timeout < Duration::from_secs(1),
            "kafka.message_timeout",
            "is below 1s, the producer's own clock tick",
        )?;
        refuse_if(
            self.linger >= self.message_timeout,
            "kafka.linger",
            "is not below kafka.message_timeout",
        )?;
        refuse_if(self.probe_interval.is_zero(), "kafka.probe_interval", "is zero")?;
        refuse_if(self.probe_timeout.is_zero(), "kafka.probe_timeout", "is zero")?;
        self.refuse_reserved_properties()
    }

    fn refuse_reserved_properties(&self) -> Result<(), ConfigError> {
        let reserved = self.librdkafka_properties().map(|(name, _)| name);
        match reserved
            .into_iter()
            .find(|name| RESERVED.contains(&name.as_str()))
        {
            None => Ok(()),
            Some(name) => Err(ConfigError::Invalid {
                key: "kafka.properties",
                reason: format!("sets `{name}`, on which the publisher's promises rest"),
            }),
        }
    }

    /// The properties with the names that librdkafka knows, none of which has an underscore.
    pub(crate) fn librdkafka_properties(&self) -> impl Iterator<Item = (String, &Secret)> {
        self.properties
            .iter()
            .map(|(name, value)| (name.replace('_', "."), value))
    }
}

/// What the publisher sets itself, with the aliases that librdkafka knows for it.
const RESERVED: [&str; 20] = [
    "acks",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "linger.ms",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "request.required.acks",
    "retries",
    "statistics.interval.ms",
    "transactional.id",
];

/// Kafka's own rule.
fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && !matches!(name, "." | "..")
}
