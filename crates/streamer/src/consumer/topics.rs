//! Creates the topic and the dead-letter topic if they do not exist. Existing topics are compared and not changed.

use std::sync::Arc;

use ::kafka::{Connection, MetadataClient, TopicConfig, TopicError, TopicSpec};
use rdkafka::error::KafkaError;
use service::process::chain;
use thiserror::Error;

use crate::config::Settings;
use crate::consumer::client;
use crate::dead_letters::retention::{RetentionTooShort, dead_letter_retention};

/// Why the topics are not ready.
#[derive(Debug, Error)]
pub enum TopicsError {
    /// A request failed.
    #[error(transparent)]
    Kafka(#[from] RequestError),
    /// The dead-letter topic is not created.
    #[error(transparent)]
    Retention(#[from] RetentionTooShort),
}

/// A request for a topic or the group failed.
#[derive(Debug, Error)]
#[error("failed to {operation}")]
pub struct RequestError {
    /// The operation, as an infinitive with its topic or group.
    pub operation: String,
    /// Its error.
    pub source: KafkaError,
}

impl From<TopicError> for RequestError {
    fn from(error: TopicError) -> Self {
        Self {
            operation: error.operation(),
            source: error.into_kafka(),
        }
    }
}

/// Creates the topics that do not exist, and logs where an existing one differs from the settings.
///
/// # Errors
/// When the cluster does not respond in time, or rejects the creation. When the dead-letter topic does not exist, and would
/// keep dead letters for a shorter time than the topic keeps records.
pub async fn ensure(settings: &Settings, metadata: &Arc<MetadataClient>) -> Result<(), TopicsError> {
    let connection = client::connection(&settings.kafka);
    let topic = client::topic(&settings.kafka);
    let partitions = partitions_of(metadata, topic.name()).await?;
    ensure_topic(&connection, &topic, partitions).await?;
    // A client that may read need not have the permission to describe the configuration.
    let config = topic.read_config(&connection).await.unwrap_or_else(|error| {
        tracing::debug!(error = chain(&error), "configuration of the topic not read");
        TopicConfig::UNKNOWN
    });
    let partitions = partitions_of(metadata, settings.kafka.dead_letter_topic()).await?;
    let retention = match dead_letter_retention(settings.dead_letters.retention, config.retention) {
        Ok(retention) => retention,
        // Raising the retention of the records must not stop a streamer.
        Err(error) if partitions.is_some() => {
            tracing::warn!(%error, "dead letters may expire before their records");
            Some(error.records)
        }
        Err(error) => return Err(error.into()),
    };
    let letters = client::dead_letter_topic(&settings.kafka, config.max_batch_bytes, retention);
    Ok(ensure_topic(&connection, &letters, partitions).await?)
}

/// The number of partitions, if the topic exists. A client that may read need not have the permission to create it.
async fn partitions_of(metadata: &Arc<MetadataClient>, topic: &str) -> Result<Option<usize>, RequestError> {
    let name = topic.to_owned();
    let partitions = metadata
        .request(move |metadata| metadata.partitions_of(&name))
        .await;
    partitions.map_err(|source| RequestError {
        operation: format!("read the metadata of topic {topic}"),
        source,
    })
}

async fn ensure_topic(
    connection: &Connection,
    topic: &TopicSpec,
    partitions: Option<usize>,
) -> Result<(), RequestError> {
    match partitions {
        None => Ok(topic.create(connection).await?),
        Some(partitions) => {
            if let Err(error) = topic.check(connection, partitions).await {
                tracing::debug!(topic = topic.name(), error = chain(&error), "topic not compared");
            }
            Ok(())
        }
    }
}
