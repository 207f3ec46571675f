//! Where the records come from.

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::List;

/// The topic and the consumer group.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaSettings {
    /// Bootstrap servers.
    pub brokers: List,
    /// The topic that is read.
    pub topic: String,
    /// Where records go that can't become a row.
    pub dead_letter_topic: String,
    /// The consumer group; checkpoints are kept by it.
    pub group: String,
    /// A static member's id, unique in the group: a restart within the session timeout then moves no partition.
    pub instance_id: Option<String>,
    /// Partitions of a topic that has to be created.
    pub partitions: i32,
    /// Replicas of a topic that has to be created: 3 in production.
    pub replication: i32,
    /// How long records stay in a main topic that has to be created.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub retention: Duration,
    /// After this long without a sign of life a member's partitions go to others. librdkafka's 45 s would be
    /// 45 s of nothing after each kill.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub session_timeout: Duration,
    /// How long a revoked partition may take to finish what is being written, before it is given up undone.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub revoke_timeout: Duration,
    /// How often topic id, end offsets and the broker's health are asked.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub probe_interval: Duration,
    /// What librdkafka may hold back for us, in memory: its own default is 64 MiB.
    pub fetch_buffer: ByteSize,
    /// Any other property of librdkafka, such as `security.protocol`; in the environment `_` stands for `.`.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: List::of(["127.0.0.1:9092"]),
            topic: "users_created".to_owned(),
            dead_letter_topic: "users_created.dead_letter".to_owned(),
            group: "streamer".to_owned(),
            instance_id: None,
            partitions: 6,
            replication: 1,
            retention: Duration::from_secs(7 * 24 * 3600),
            session_timeout: Duration::from_secs(8),
            revoke_timeout: Duration::from_secs(5),
            probe_interval: Duration::from_secs(2),
            fetch_buffer: ByteSize::mib(4),
            properties: BTreeMap::new(),
        }
    }
}
