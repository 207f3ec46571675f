//! Settings of the topic and the consumer group.

use std::collections::BTreeMap;
use std::time::Duration;

use ::kafka::client::{check, login, property};
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::config::{Endpoints, TopicName, Violations};

/// The topic and the consumer group.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaSettings {
    /// Bootstrap servers, each `host:port`; the default port is 9092.
    pub brokers: Endpoints<9092>,
    /// The consumed topic; if not set, the contract's resource and `_created`.
    pub topic: Option<TopicName>,
    /// The topic of records that can't become a row; if not set, the resource and `_created.dead_letter`.
    pub dead_letter_topic: Option<TopicName>,
    /// The consumer group, part of each checkpoint's key.
    pub group: String,
    /// `group.instance.id` of a static member, unique in the group. A restart within the session timeout then causes no
    /// rebalance.
    pub instance_id: Option<String>,
    /// The number of partitions of a created topic.
    pub partitions: i32,
    /// The replication factor of a created topic: 3 in production.
    pub replication: i32,
    /// `min.insync.replicas` of a created topic; none: 2 if `replication` is 3 or more, else 1.
    pub min_insync_replicas: Option<i32>,
    /// The retention of a created main topic.
    #[serde(with = "service::duration")]
    pub retention: Duration,
    /// A member without a heartbeat for this time loses its partitions. With librdkafka's default of 45 s they would rest
    /// for 45 s after each crash.
    #[serde(with = "service::duration")]
    pub session_timeout: Duration,
    /// How long a revoked partition may take to finish its writes in flight before they are abandoned.
    #[serde(with = "service::duration")]
    pub revoke_timeout: Duration,
    /// How often topic id, end offsets and the broker's health are requested.
    #[serde(with = "service::duration")]
    pub probe_interval: Duration,
    /// The maximum size of librdkafka's prefetch queue, whose default is 64 MiB. A response of a broker is a quarter of it,
    /// but at least 1 MiB.
    pub fetch_buffer: ByteSize,
    /// Other properties of librdkafka, such as `security.protocol`; in the environment with `_` instead of `.`.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: Endpoints::local(),
            topic: None,
            dead_letter_topic: None,
            group: "streamer".to_owned(),
            instance_id: None,
            partitions: 6,
            replication: 1,
            min_insync_replicas: None,
            retention: Duration::from_secs(7 * 24 * 3600),
            session_timeout: Duration::from_secs(8),
            revoke_timeout: Duration::from_secs(5),
            probe_interval: Duration::from_secs(2),
            fetch_buffer: ByteSize::mib(2),
            properties: BTreeMap::new(),
        }
    }
}

/// Why a name is set.
const RESOLVED: &str = "names are resolved when the contract is loaded";

impl KafkaSettings {
    /// The consumed topic.
    ///
    /// # Panics
    /// Before [`Settings::resolve`](super::Settings::resolve).
    pub fn topic(&self) -> &str {
        self.topic.as_deref().expect(RESOLVED)
    }

    /// The topic of records that can't become a row.
    ///
    /// # Panics
    /// Before [`Settings::resolve`](super::Settings::resolve).
    pub fn dead_letter_topic(&self) -> &str {
        self.dead_letter_topic.as_deref().expect(RESOLVED)
    }

    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require(
            self.topic.is_none() || self.topic != self.dead_letter_topic,
            "kafka.dead_letter_topic",
            "must differ from kafka.topic, or dead letters would be consumed again",
        );
        violations.require(self.partitions >= 1, "kafka.partitions", "must be at least 1");
        violations.require(self.replication >= 1, "kafka.replication", "must be at least 1");
        violations.require(
            self.min_insync_replicas
                .is_none_or(|replicas| (1..=self.replication).contains(&replicas)),
            "kafka.min_insync_replicas",
            "must be between 1 and kafka.replication",
        );
        let reserved = property::violations(self.properties.keys(), "streamer", &RESERVED);
        violations.extend(reserved);
        violations.extend(login::violations(self.properties()));
    }

    /// Adds each property that librdkafka refuses, and each that names a file that can't be read.
    pub(super) fn check_files(&self, violations: &mut Violations) {
        violations.extend(check::violations(self.properties()));
    }

    /// The names and values of the properties.
    fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// The properties that the streamer sets itself, or that would weaken a guarantee.
const RESERVED: [&str; 20] = [
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "fetch.message.max.bytes",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "message.max.bytes",
    "message.timeout.ms",
    "partition.assignment.strategy",
    "partitioner",
    "queued.max.messages.kbytes",
    "session.timeout.ms",
    "transactional.id",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_canonical() {
        assert!(RESERVED.iter().all(|name| property::canonical(name) == *name));
    }

    #[test]
    fn reserved_property_is_an_error_under_each_of_its_names() {
        for name in [
            "auto_offset_reset",
            "topic_auto_offset_reset",
            "topic.partitioner",
            "topic_request_required_acks",
            "max_partition_fetch_bytes",
        ] {
            let settings = KafkaSettings {
                properties: [(name.to_owned(), "x".to_owned())].into(),
                ..KafkaSettings::default()
            };
            let mut violations = Violations::default();
            settings.validate(&mut violations);
            let found = violations.iter().next().map(ToString::to_string);
            let start = format!("kafka.properties.{name}: must not be set");
            assert!(found.is_some_and(|text| text.starts_with(&start)), "{name}");
        }
    }

    #[test]
    fn login_that_can_not_work_is_an_error() {
        let settings = KafkaSettings {
            properties: [("sasl_mechanism".to_owned(), "AWS_MSK_IAM".to_owned())].into(),
            ..KafkaSettings::default()
        };
        let mut violations = Violations::default();
        settings.validate(&mut violations);
        let found = violations.iter().next().map(ToString::to_string);
        let start = "kafka.properties.sasl_mechanism: AWS_MSK_IAM is not supported";
        assert!(found.is_some_and(|text| text.starts_with(start)));
    }
}
