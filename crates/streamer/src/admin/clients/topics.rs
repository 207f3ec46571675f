//! The settings of the topic and of the dead-letter topic.

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::consumer::client;
use crate::dead_letters::retention::dead_letter_retention;
use ::kafka::topic::Difference;
use ::kafka::{TopicRetention, TopicSpec};

impl Clients {
    /// Returns how long the topic keeps its records; none if it is not known.
    ///
    /// # Errors
    /// When Kafka rejects the request, or does not respond in time.
    pub(in crate::admin) async fn retention(&self) -> Result<Option<TopicRetention>, CommandError> {
        self.retention_of(&client::topic(&self.settings.kafka)).await
    }

    /// Returns how long the dead-letter topic keeps its records; none if it is not known.
    ///
    /// # Errors
    /// As [`retention`](Self::retention).
    pub(in crate::admin) async fn dead_letter_retention(
        &self,
    ) -> Result<Option<TopicRetention>, CommandError> {
        self.retention_of(&client::dead_letter_topic(&self.settings.kafka, None, None))
            .await
    }

    async fn retention_of(&self, topic: &TopicSpec) -> Result<Option<TopicRetention>, CommandError> {
        let connection = client::connection(&self.settings.kafka);
        match topic.read_config(&connection).await {
            Ok(config) => Ok(config.retention),
            // A client that may read need not have the permission to describe the configuration.
            Err(error) if ::kafka::is_rejected(error.kafka()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns where the retention of the dead-letter topic differs from the settings.
    ///
    /// # Errors
    /// [`CommandError::Retention`], and as [`retention`](Self::retention).
    pub(in crate::admin) async fn dead_letter_retention_differences(
        &self,
    ) -> Result<Vec<Difference>, CommandError> {
        let records = self.retention().await?;
        let retention = dead_letter_retention(self.settings.dead_letters.retention, records)?;
        let topic = client::dead_letter_topic(&self.settings.kafka, None, retention);
        let connection = client::connection(&self.settings.kafka);
        Ok(topic.retention_differences(&connection).await?)
    }

    /// Sets the required values in the dead-letter topic.
    ///
    /// # Errors
    /// When Kafka rejects the change, or does not respond in time.
    pub(in crate::admin) async fn alter_dead_letter_topic(
        &self,
        differences: &[Difference],
    ) -> Result<(), CommandError> {
        let changes = differences
            .iter()
            .map(|(name, _, expected)| (*name, expected.clone()));
        let changes: Vec<_> = changes.collect();
        let topic = self.settings.kafka.dead_letter_topic();
        self.request(&self.dead_letter_metadata, topic, move |metadata| {
            metadata.alter_topic(&changes)
        })
        .await
    }
}
