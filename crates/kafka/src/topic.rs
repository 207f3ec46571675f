//! Creates topics that are absent, and compares existing ones with what is expected. An existing topic is never changed;
//! differences are logged, because they may be intended.

pub(crate) mod alter_topic;
pub mod retention;
pub mod topic_id;

use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use thiserror::Error;

use self::retention::{MAX_SEGMENT, RETENTION_MS, SEGMENT_MS, TopicRetention};
use crate::client::Connection;
use crate::events::ClientEvents;

const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Kafka's default for `max.message.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;
/// A dead letter carries the whole original record and the headers of its reason.
const DEAD_LETTER_OVERHEAD_BYTES: usize = 64 * 1024;

/// An admin request for a topic failed.
#[derive(Debug, Error)]
#[error("failed to {operation} topic {topic}")]
pub struct TopicError {
    operation: &'static str,
    topic: String,
    #[source]
    source: KafkaError,
}

impl TopicError {
    /// The operation, as an infinitive with the topic.
    #[must_use]
    pub fn operation(&self) -> String {
        format!("{} topic {}", self.operation, self.topic)
    }

    /// The error of librdkafka behind it.
    #[must_use]
    pub fn kafka(&self) -> &KafkaError {
        &self.source
    }

    /// Takes the error of librdkafka behind it.
    #[must_use]
    pub fn into_kafka(self) -> KafkaError {
        self.source
    }
}

/// The configuration of an existing topic that its clients depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// `min.insync.replicas`.
    pub min_insync: usize,
    /// `max.message.bytes`, the largest batch in bytes; none if it is not known.
    pub max_batch_bytes: Option<usize>,
    /// How long it keeps records; none if it is not known.
    pub retention: Option<TopicRetention>,
}

/// A setting of a topic that is not as required: its name, its value, and the required value.
pub type Difference = (&'static str, String, String);

/// What a topic has to be: its partitions, replicas and configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    name: String,
    partitions: i32,
    replication: i32,
    config: Vec<(&'static str, String)>,
    /// The command that changes the retention of an existing topic.
    remedy: Option<&'static str>,
}

impl TopicSpec {
    /// The topic of the records. `min_insync_replicas` defaults to [`default_min_insync_replicas`].
    #[must_use]
    pub fn records(
        name: &str,
        partitions: i32,
        replication: i32,
        min_insync_replicas: Option<i32>,
        retention: Duration,
    ) -> Self {
        let spec = Self::replicated(name, partitions, replication, min_insync_replicas);
        // The brokers' clock is the only one that sets timestamps.
        spec.with("message.timestamp.type", &"LogAppendTime")
            .with("cleanup.policy", &"delete")
            .with_retention(Some(retention))
    }

    /// The topic of the dead letters, with room for the largest record and the headers of its reason.
    /// `max_message_bytes` is the limit of the records' topic, or Kafka's default if it is unknown. `retention`: how long
    /// they are kept; none: for ever.
    #[must_use]
    pub fn dead_letters(
        name: &str,
        partitions: i32,
        replication: i32,
        min_insync_replicas: Option<i32>,
        max_message_bytes: Option<usize>,
        retention: Option<Duration>,
    ) -> Self {
        let spec = Self::replicated(name, partitions, replication, min_insync_replicas);
        let max_message_bytes = max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES);
        spec.with_retention(retention).with(
            "max.message.bytes",
            &(max_message_bytes.saturating_add(DEAD_LETTER_OVERHEAD_BYTES)),
        )
    }

    /// Names the command that changes the retention of an existing topic, for the warning about it.
    #[must_use]
    pub fn with_remedy(self, remedy: &'static str) -> Self {
        Self {
            remedy: Some(remedy),
            ..self
        }
    }

    /// Kafka deletes whole segments only, so a record is kept for a segment longer than the retention.
    fn with_retention(self, retention: Option<Duration>) -> Self {
        let segment = retention.map_or(MAX_SEGMENT, |retention| retention.min(MAX_SEGMENT));
        let spec = match retention {
            Some(retention) => self.with(RETENTION_MS, &retention.as_millis()),
            None => self.with(RETENTION_MS, &-1),
        };
        spec.with(SEGMENT_MS, &segment.as_millis())
    }

    fn replicated(name: &str, partitions: i32, replication: i32, min_insync_replicas: Option<i32>) -> Self {
        let min_insync = min_insync_replicas.unwrap_or_else(|| default_min_insync_replicas(replication));
        let spec = Self {
            name: name.to_owned(),
            partitions,
            replication,
            config: Vec::new(),
            remedy: None,
        };
        // A lagging replica must not become leader and lose acknowledged records.
        spec.with("min.insync.replicas", &min_insync)
            .with("unclean.leader.election.enable", &false)
    }

    fn with(mut self, name: &'static str, value: &dyn std::fmt::Display) -> Self {
        self.config.push((name, value.to_string()));
        self
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Creates the topic. Succeeds if it exists already.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn create(&self, connection: &Connection) -> Result<(), TopicError> {
        let topic = NewTopic {
            name: &self.name,
            num_partitions: self.partitions,
            replication: TopicReplication::Fixed(self.replication),
            config: self
                .config
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect(),
        };
        let failed = |source| self.error("create", source);
        let admin = admin(connection).await.map_err(failed)?;
        let created = admin.create_topics([&topic], &options()).await;
        close(admin);
        match created.map_err(failed)?.pop() {
            // Another process was faster.
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(failed(KafkaError::AdminOp(code))),
            Some(Ok(_)) | None => {
                tracing::info!(topic = self.name, partitions = self.partitions, "topic created");
                Ok(())
            }
        }
    }

    /// Logs where an existing topic differs, and returns its configuration.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn check(&self, connection: &Connection, partitions: usize) -> Result<TopicConfig, TopicError> {
        let config = self.describe(connection).await?;
        for (name, found, expected) in self.differences(partitions, config.as_ref()) {
            tracing::warn!(
                topic = self.name,
                name,
                found,
                expected,
                remedy = self.remedy.filter(|_| is_retention(name)),
                "topic differs from the settings and is not changed"
            );
        }
        Ok(TopicConfig::of(config.as_ref()))
    }

    /// Returns the configuration of an existing topic.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn read_config(&self, connection: &Connection) -> Result<TopicConfig, TopicError> {
        let config = self.describe(connection).await?;
        Ok(TopicConfig::of(config.as_ref()))
    }

    /// Returns where the retention of an existing topic differs.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn retention_differences(
        &self,
        connection: &Connection,
    ) -> Result<Vec<Difference>, TopicError> {
        let config = self.describe(connection).await?;
        let mut differences = self.config_differences(config.as_ref());
        differences.retain(|(name, ..)| is_retention(name));
        Ok(differences)
    }

    async fn describe(&self, connection: &Connection) -> Result<Option<ConfigResource>, TopicError> {
        let failed = |source| self.error("describe", source);
        let admin = admin(connection).await.map_err(failed)?;
        let name = ResourceSpecifier::Topic(&self.name);
        let described = admin.describe_configs([&name], &options()).await;
        close(admin);
        let described = described.map_err(failed)?.pop().transpose();
        let described = described.map_err(|code| failed(KafkaError::AdminOp(code)))?;
        // rdkafka drops the error of a resource. Every topic has a configuration.
        if described.as_ref().is_some_and(|config| config.entries.is_empty()) {
            let rejected = RDKafkaErrorCode::TopicAuthorizationFailed;
            return Err(failed(KafkaError::AdminOp(rejected)));
        }
        Ok(described)
    }

    fn error(&self, operation: &'static str, source: KafkaError) -> TopicError {
        TopicError {
            operation,
            topic: self.name.clone(),
            source,
        }
    }

    fn differences(&self, partitions: usize, config: Option<&ConfigResource>) -> Vec<Difference> {
        let (found, expected) = (partitions.to_string(), self.partitions.to_string());
        let partitions = (found != expected).then_some(("partitions", found, expected));
        partitions
            .into_iter()
            .chain(self.config_differences(config))
            .collect()
    }

    fn config_differences(&self, config: Option<&ConfigResource>) -> Vec<Difference> {
        let found = |name: &str| config?.get(name)?.value.clone();
        let compared = self.config.iter().map(|(name, expected)| {
            let found = found(name).unwrap_or_default();
            (*name, found, expected.clone())
        });
        compared
            .filter(|(name, found, expected)| !fits(name, found, expected))
            .collect()
    }
}

fn is_retention(name: &str) -> bool {
    [RETENTION_MS, SEGMENT_MS].contains(&name)
}

/// Whether the value of a setting is as required. Shorter segments only make the retention more exact.
fn fits(name: &str, found: &str, expected: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    let is_shorter = || {
        number(found)
            .zip(number(expected))
            .is_some_and(|(found, most)| found <= most)
    };
    found == expected || (name == SEGMENT_MS && is_shorter())
}

impl TopicConfig {
    /// What is assumed of a topic whose configuration can't be read.
    pub const UNKNOWN: Self = Self {
        min_insync: 1,
        max_batch_bytes: None,
        retention: None,
    };

    fn of(config: Option<&ConfigResource>) -> Self {
        let number = |name| config?.get(name)?.value.as_ref()?.parse().ok();
        Self {
            min_insync: number("min.insync.replicas").unwrap_or(Self::UNKNOWN.min_insync),
            max_batch_bytes: number("max.message.bytes"),
            retention: config.and_then(TopicRetention::of),
        }
    }
}

/// `min.insync.replicas` of a topic with this replication factor: one replica may be away, and an acknowledged record is
/// on two of three.
#[must_use]
pub const fn default_min_insync_replicas(replication: i32) -> i32 {
    if replication >= 3 { 2 } else { 1 }
}

/// Why the topic is not writable now; none if it is.
pub fn unwritable_reason(topic: &MetadataTopic, min_insync: usize) -> Option<String> {
    if let Some(error) = topic.error() {
        return Some(RDKafkaErrorCode::from(error).to_string());
    }
    if topic.partitions().is_empty() {
        return Some("the topic has no partitions yet".to_owned());
    }
    topic.partitions().iter().find_map(|partition| {
        let (id, in_sync) = (partition.id(), partition.isr().len());
        if partition.leader() < 0 {
            Some(format!("partition {id} has no leader"))
        } else if in_sync < min_insync {
            Some(format!(
                "partition {id} has {in_sync} of {min_insync} replicas in sync"
            ))
        } else {
            None
        }
    })
}

/// A client that serves no events of librdkafka, so it gets its token here. It lives shorter than a token.
async fn admin(connection: &Connection) -> Result<AdminClient<ClientEvents>, KafkaError> {
    let connection = connection.clone();
    let created = tokio::task::spawn_blocking(move || {
        let admin: AdminClient<_> = connection
            .config()
            .create_with_context(ClientEvents::new(&connection))?;
        if let Some(tokens) = connection.tokens() {
            tokens.authenticate(admin.inner())?;
        }
        Ok(admin)
    });
    created.await.unwrap_or(Err(KafkaError::Canceled))
}

/// Closing a client waits for its threads, which must not block the requests.
fn close(admin: AdminClient<ClientEvents>) {
    drop(tokio::task::spawn_blocking(move || drop(admin)));
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ADMIN_TIMEOUT))
        .operation_timeout(Some(ADMIN_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(spec: &'a TopicSpec, name: &str) -> &'a str {
        let found = spec.config.iter().find(|(key, _)| *key == name);
        &found.unwrap().1
    }

    #[test]
    fn min_insync_replicas_follow_replication_unless_set() {
        let retention = Duration::from_secs(60);
        for (replication, set, expected) in
            [(1, None, "1"), (2, None, "1"), (3, None, "2"), (3, Some(1), "1")]
        {
            let records = TopicSpec::records("a", 6, replication, set, retention);
            let letters = TopicSpec::dead_letters("b", 6, replication, set, None, None);
            assert_eq!(value(&records, "min.insync.replicas"), expected);
            assert_eq!(value(&letters, "min.insync.replicas"), expected);
        }
    }

    #[test]
    fn segments_are_at_most_a_day_and_the_retention_long() {
        let (minute, month) = (Duration::from_secs(60), Duration::from_secs(30 * 86_400));
        for (retention, expected) in [
            (Some(minute), ["60000", "60000"]),
            (Some(month), ["2592000000", "86400000"]),
            (None, ["-1", "86400000"]),
        ] {
            let letters = TopicSpec::dead_letters("a", 6, 1, None, None, retention);
            assert_eq!(
                [RETENTION_MS, SEGMENT_MS].map(|name| value(&letters, name)),
                expected
            );
        }
        assert!(fits(SEGMENT_MS, "3600000", "86400000") && !fits(SEGMENT_MS, "86400001", "86400000"));
        assert!(!fits(RETENTION_MS, "3600000", "86400000") && !fits(SEGMENT_MS, "", "86400000"));
    }

    #[test]
    fn differences_name_what_an_absent_configuration_lacks() {
        let spec = TopicSpec::records("a", 6, 1, None, Duration::from_secs(60));
        let names: Vec<_> = spec
            .differences(3, None)
            .into_iter()
            .map(|(name, ..)| name)
            .collect();
        assert_eq!(names.len(), 1 + spec.config.len());
        assert_eq!(names[0], "partitions");
    }
}
