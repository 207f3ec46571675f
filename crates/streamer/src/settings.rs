//! What the operator can set, with the defaults and why they are what they are.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Settings as _};
use service::{Backoff, List, ProcessSettings, Secret};

use crate::retention;

/// Everything under the streamer's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Admin port, logs, shutdown.
    pub process: ProcessSettings,
    /// Where the records come from.
    pub kafka: KafkaSettings,
    /// Where they go.
    pub cassandra: CassandraSettings,
    /// When a micro-batch is flushed.
    pub batch: BatchSettings,
    /// Where reading starts, and how often progress is kept.
    pub checkpoint: CheckpointSettings,
    /// When a partition has so many dead letters that something else is wrong.
    pub dead_letters: DeadLetterSettings,
    /// What a record with a null value means.
    pub tombstones: Tombstones,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            process: ProcessSettings::on_port(9083),
            kafka: KafkaSettings::default(),
            cassandra: CassandraSettings::default(),
            batch: BatchSettings::default(),
            checkpoint: CheckpointSettings::default(),
            dead_letters: DeadLetterSettings::default(),
            tombstones: Tombstones::Delete,
        }
    }
}

impl Settings {
    /// When a micro-batch is flushed: with no more rows than may be written in a second, or a stop and a revocation
    /// would wait for it too long.
    pub fn batch(&self) -> BatchSettings {
        let most = self.cassandra.max_rows_per_second;
        let most = most.and_then(|most| usize::try_from(most.get()).ok());
        BatchSettings {
            max_rows: most.map_or(self.batch.max_rows, |most| most.min(self.batch.max_rows)),
            ..self.batch.clone()
        }
    }
}

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
    pub revoke_deadline: Duration,
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
            revoke_deadline: Duration::from_secs(5),
            probe_interval: Duration::from_secs(2),
            fetch_buffer: ByteSize::mib(4),
            properties: BTreeMap::new(),
        }
    }
}

/// The cluster, the tables and how they are written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CassandraSettings {
    /// Nodes asked first, each `host:port`; names are resolved anew for every session.
    pub contact_points: List,
    /// The role to log in as; none: no authentication.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The data centre whose nodes are written to.
    pub local_datacenter: String,
    /// Consistency level of rows and checkpoints, written and read.
    pub consistency: ConsistencyLevel,
    /// The keyspace.
    pub keyspace: String,
    /// Replication of a keyspace that has to be created, as CQL's map.
    pub replication: String,
    /// The table of the users.
    pub table: String,
    /// The table of the checkpoints, in the same keyspace.
    pub checkpoint_table: String,
    /// Connections to each node.
    pub connections: usize,
    /// The most statements in flight; fewer after a sign of overload.
    pub window: usize,
    /// Rows that all have the same replicas are sent together, up to this size: below the 5 KiB at which a server
    /// warns (`batch_size_warn_threshold`). Nothing is sent together in a cluster with more nodes than replicas.
    pub statement_bytes: ByteSize,
    /// The most rows that this process writes in a second, so that a replay leaves room for live readers; none: as
    /// many as Cassandra takes.
    pub max_rows_per_second: Option<NonZeroU32>,
    /// How long a row lives, from when the publisher took its record; none: for ever. Whole seconds, at most 20 years.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional")]
    pub row_ttl: Option<Duration>,
    /// How long a statement may take, above the server's own write timeout (2 s by default).
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub request_timeout: Duration,
    /// How long reaching a node may take.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub connect_timeout: Duration,
    /// The waits between attempts, of which there is no last one.
    pub backoff: Backoff,
}

impl CassandraSettings {
    /// Keyspace and name of the table of the users, for messages.
    pub fn qualified_table(&self) -> String {
        format!("{}.{}", self.keyspace, self.table)
    }
}

impl Default for CassandraSettings {
    fn default() -> Self {
        Self {
            contact_points: List::of(["127.0.0.1:9042"]),
            username: None,
            password: None,
            local_datacenter: "datacenter1".to_owned(),
            consistency: ConsistencyLevel::LocalQuorum,
            keyspace: "spark_streams".to_owned(),
            replication: "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}".to_owned(),
            table: "created_users".to_owned(),
            checkpoint_table: "stream_checkpoints".to_owned(),
            connections: 2,
            window: 256,
            statement_bytes: ByteSize::kib(4),
            max_rows_per_second: None,
            row_ttl: None,
            request_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            backoff: Backoff::default(),
        }
    }
}

/// A consistency level under which an acknowledged write is on at least one replica's disk or memory; so not `ANY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are Cassandra's own")]
pub enum ConsistencyLevel {
    One,
    LocalOne,
    Two,
    Three,
    LocalQuorum,
    Quorum,
    EachQuorum,
    All,
}

/// A micro-batch is flushed while at most one other is being written, or when the first of these is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchSettings {
    /// Records.
    pub max_rows: usize,
    /// Bytes of keys, values and headers.
    pub max_bytes: ByteSize,
    /// Age of the oldest record.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_age: Duration,
    /// Micro-batches being written at once, so that the window stays full while one ends.
    pub in_flight: usize,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            max_rows: 500,
            max_bytes: ByteSize::mib(1),
            max_age: Duration::from_millis(50),
            in_flight: 4,
        }
    }
}

/// Progress, and where to start without it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointSettings {
    /// How often progress is written down; what came after it is written again after a kill.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub interval: Duration,
    /// After so long without a checkpoint, while records wait and nothing is in the way, `/healthz` asks for a restart.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub stall_after: Duration,
    /// Where a partition without a checkpoint starts.
    pub on_missing: OnMissing,
    /// What happens when the checkpoint lies outside what the topic holds: records are gone.
    pub on_out_of_range: OnOutOfRange,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(200),
            stall_after: Duration::from_secs(60),
            on_missing: OnMissing::Earliest,
            on_out_of_range: OnOutOfRange::Fail,
        }
    }
}

/// Where a partition without a checkpoint starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// At the topic's beginning.
    Earliest,
    /// At its end; only while the group has no checkpoint for any partition of the topic.
    Latest,
    /// Where the consumer group's own committed offset says: taking over from another consumer.
    Group,
    /// Nowhere: the process stops.
    Fail,
}

/// What happens when records between the checkpoint and the topic's beginning, or its end, are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOutOfRange {
    /// The process stops and says how much is gone.
    Fail,
    /// Go on at the topic's beginning, with a warning.
    Earliest,
    /// Go on at the topic's end, with a warning.
    Latest,
}

/// When a partition stops because too many of its records become dead letters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DeadLetterSettings {
    /// Dead letters in a row on one partition that stop it; 0: any number is taken.
    pub max_in_a_row: u32,
    /// Their share of the latest records of a partition above which it stops; 1: any share is taken.
    pub max_ratio: f64,
    /// How many records "the latest" are, about: older ones count less and less.
    pub window: u32,
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self {
            max_in_a_row: 100,
            max_ratio: 0.5,
            window: 1_000,
        }
    }
}

/// What a record with a null value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tombstones {
    /// The row is deleted.
    Delete,
    /// It is refused.
    DeadLetter,
}

impl service::config::Settings for Settings {
    const SERVICE: &'static str = "streamer";

    fn validate(&self) -> Result<(), ConfigError> {
        let cassandra = &self.cassandra;
        refuse_if(self.kafka.brokers.is_empty(), "kafka.brokers", "is empty")?;
        refuse_if(self.kafka.topic.is_empty(), "kafka.topic", "is empty")?;
        refuse_if(self.kafka.group.is_empty(), "kafka.group", "is empty")?;
        let same = self.kafka.topic == self.kafka.dead_letter_topic;
        refuse_if(
            same,
            "kafka.dead_letter_topic",
            "is the topic that is read: dead letters would be read again",
        )?;
        refuse_if(self.kafka.partitions < 1, "kafka.partitions", "is below 1")?;
        refuse_if(self.kafka.replication < 1, "kafka.replication", "is below 1")?;
        refuse_if(
            cassandra.contact_points.is_empty(),
            "cassandra.contact_points",
            "is empty",
        )?;
        let half = cassandra.username.is_some() != cassandra.password.is_some();
        refuse_if(
            half,
            "cassandra.username",
            "and cassandra.password belong together",
        )?;
        refuse_if(
            !is_identifier(&cassandra.keyspace),
            "cassandra.keyspace",
            NOT_A_NAME,
        )?;
        refuse_if(!is_identifier(&cassandra.table), "cassandra.table", NOT_A_NAME)?;
        refuse_if(
            !is_identifier(&cassandra.checkpoint_table),
            "cassandra.checkpoint_table",
            NOT_A_NAME,
        )?;
        let window = 1..=MOST_IN_FLIGHT;
        refuse_if(
            !window.contains(&cassandra.window),
            "cassandra.window",
            "is not between 1 and 8192",
        )?;
        refuse_if(cassandra.connections == 0, "cassandra.connections", "is 0")?;
        refuse_if(
            cassandra.request_timeout.is_zero(),
            "cassandra.request_timeout",
            "is 0",
        )?;
        let row_ttl = Duration::from_secs(1)..=retention::LONGEST;
        refuse_if(
            cassandra.row_ttl.is_some_and(|ttl| !row_ttl.contains(&ttl)),
            "cassandra.row_ttl",
            "is not between a second and 20 years",
        )?;
        refuse_if(
            self.checkpoint.stall_after.is_zero(),
            "checkpoint.stall_after",
            "is 0",
        )?;
        refuse_if(
            cassandra.backoff.initial.is_zero(),
            "cassandra.backoff.initial",
            "is 0",
        )?;
        let share = 0.0..=1.0;
        refuse_if(
            !share.contains(&self.dead_letters.max_ratio),
            "dead_letters.max_ratio",
            "is not between 0 and 1",
        )?;
        let window = 1..=100_000;
        refuse_if(
            !window.contains(&self.dead_letters.window),
            "dead_letters.window",
            "is not between 1 and 100000",
        )?;
        refuse_if(self.batch.max_rows == 0, "batch.max_rows", "is 0")?;
        let countable = usize::from(u16::MAX);
        refuse_if(
            self.batch.max_rows > countable,
            "batch.max_rows",
            "is more than 65535",
        )?;
        refuse_if(self.batch.in_flight == 0, "batch.in_flight", "is 0")?;
        refuse_if(self.checkpoint.interval.is_zero(), "checkpoint.interval", "is 0")
    }
}

/// Half of what [`Gate`](crate::cassandra::gate::Gate) lets pass, so that the window alone never fills it.
const MOST_IN_FLIGHT: usize = 8_192;

const NOT_A_NAME: &str =
    "is not a name of lower-case letters, digits and underscores that begins with a letter";

fn refuse_if(wrong: bool, key: &'static str, reason: &str) -> Result<(), ConfigError> {
    if wrong {
        Err(ConfigError::Invalid {
            key,
            reason: reason.to_owned(),
        })
    } else {
        Ok(())
    }
}

/// A name that CQL takes without quotes and keeps as it is.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= 48
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The name of the service, as in its variables and metrics.
pub const NAME: &str = Settings::SERVICE;

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let variables = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        service::config::load(None, variables)
    }

    #[test]
    fn the_defaults_are_valid() {
        load(&[]).unwrap();
    }

    #[test]
    fn values_are_read_from_the_environment() {
        let settings = load(&[
            ("STREAMER__CASSANDRA__CONTACT_POINTS", "a:1,b:2"),
            ("STREAMER__CASSANDRA__CONSISTENCY", "local_one"),
            ("STREAMER__CASSANDRA__BACKOFF__MAX", "3s"),
            ("STREAMER__CHECKPOINT__ON_MISSING", "group"),
            ("STREAMER__BATCH__MAX_BYTES", "64KiB"),
        ])
        .unwrap();
        assert_eq!(settings.cassandra.contact_points.len(), 2);
        assert_eq!(settings.cassandra.consistency, ConsistencyLevel::LocalOne);
        assert_eq!(settings.cassandra.backoff.max, Duration::from_secs(3));
        assert_eq!(settings.checkpoint.on_missing, OnMissing::Group);
        assert_eq!(settings.batch.max_bytes, ByteSize::kib(64));
    }

    #[test]
    fn a_micro_batch_holds_no_more_than_a_seconds_rows() {
        assert_eq!(
            Settings::default().batch().max_rows,
            BatchSettings::default().max_rows
        );
        let settings = load(&[("STREAMER__CASSANDRA__MAX_ROWS_PER_SECOND", "7")]).unwrap();
        assert_eq!(settings.batch().max_rows, 7);
        assert!(load(&[("STREAMER__CASSANDRA__MAX_ROWS_PER_SECOND", "0")]).is_err());
    }

    #[test]
    fn a_name_that_could_smuggle_cql_is_refused() {
        let error = load(&[("STREAMER__CASSANDRA__TABLE", "users; drop table x")]).unwrap_err();
        assert!(
            error.to_string().starts_with("`cassandra.table` is not a name"),
            "{error}"
        );
    }
}
