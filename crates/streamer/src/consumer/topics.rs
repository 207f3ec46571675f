//! Creates the topic and the dead-letter topic if they do not exist. Existing topics are compared and not changed.

use std::sync::Arc;

use ::kafka::{MetadataClient, TopicError};
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
    for topic in client::topics(settings) {
        let name = topic.name().to_owned();
        // Checked first, because a client that may read need not have the permission to create.
        match metadata
            .request(move |metadata| metadata.partitions_of(&name))
            .await?
        {
            None => topic.create(&connection).await.map_err(TopicError::into_kafka)?,
            Some(partitions) => {
                // A client that may read need not have the permission to describe the configuration.
                if let Err(error) = topic.check(&connection, partitions).await {
                    tracing::debug!(topic = topic.name(), error = chain(&error), "topic not compared");
                }
            }
        }
    }
    Ok(())
}
