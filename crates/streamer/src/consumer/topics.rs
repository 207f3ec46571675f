//! Creates the topic and the dead-letter topic if they do not exist. Existing topics are compared and not changed.

use std::sync::Arc;

use ::kafka::{Connection, MetadataClient, TopicConfig, TopicError, TopicSpec};
use rdkafka::error::KafkaError;
use service::process::chain;

use crate::config::KafkaSettings;
use crate::consumer::client;

/// A request for a topic or the group failed.
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
/// When the cluster does not respond in time, or rejects the creation.
pub async fn ensure(settings: &KafkaSettings, metadata: &Arc<MetadataClient>) -> Result<(), RequestError> {
    let connection = client::connection(settings);
    let topic = client::topic(settings);
    ensure_topic(&connection, metadata, &topic).await?;
    // A client that may read need not have the permission to describe the configuration.
    let config = topic.read_config(&connection).await.unwrap_or_else(|error| {
        tracing::debug!(error = chain(&error), "configuration of the topic not read");
        TopicConfig::UNKNOWN
    });
    let limit = config.max_batch_bytes;
    ensure_topic(&connection, metadata, &client::dead_letter_topic(settings, limit)).await
}

async fn ensure_topic(
    connection: &Connection,
    metadata: &Arc<MetadataClient>,
    topic: &TopicSpec,
) -> Result<(), RequestError> {
    let name = topic.name().to_owned();
    // Checked first, because a client that may read need not have the permission to create.
    let partitions = metadata
        .request(move |metadata| metadata.partitions_of(&name))
        .await;
    let partitions = partitions.map_err(|source| RequestError {
        operation: format!("read the metadata of topic {}", topic.name()),
        source,
    })?;
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
