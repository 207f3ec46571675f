//! Creates the topic and the dead-letter topic if they do not exist. Existing topics are compared and not changed.

use std::sync::Arc;

use ::kafka::topic::max_message_bytes;
use ::kafka::{Connection, MetadataClient, TopicError, TopicSpec};
use rdkafka::error::KafkaError;
use service::process::chain;

use crate::config::KafkaSettings;
use crate::consumer::client;

/// Creates the topics that do not exist, and logs where an existing one differs from the settings.
///
/// # Errors
/// When the cluster does not respond in time, or rejects the creation.
pub async fn ensure(settings: &KafkaSettings, metadata: &Arc<MetadataClient>) -> Result<(), KafkaError> {
    let connection = client::connection(settings);
    ensure_topic(&connection, metadata, &client::topic(settings)).await?;
    // A client that may read need not have the permission to describe the configuration.
    let limit = max_message_bytes(&connection, settings.topic()).await;
    let limit = limit.unwrap_or_else(|error| {
        tracing::debug!(error = chain(&error), "max.message.bytes of the topic not read");
        None
    });
    ensure_topic(&connection, metadata, &client::dead_letter_topic(settings, limit)).await
}

async fn ensure_topic(
    connection: &Connection,
    metadata: &Arc<MetadataClient>,
    topic: &TopicSpec,
) -> Result<(), KafkaError> {
    let name = topic.name().to_owned();
    // Checked first, because a client that may read need not have the permission to create.
    match metadata
        .request(move |metadata| metadata.partitions_of(&name))
        .await?
    {
        None => topic.create(connection).await.map_err(TopicError::into_kafka),
        Some(partitions) => {
            if let Err(error) = topic.check(connection, partitions).await {
                tracing::debug!(topic = topic.name(), error = chain(&error), "topic not compared");
            }
            Ok(())
        }
    }
}
