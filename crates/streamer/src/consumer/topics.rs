//! Creates the topic and the dead-letter topic if they do not exist. Existing topics are not changed.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::consumer::client;
use crate::consumer::metadata_client::MetadataClient;
use crate::config::KafkaSettings;

/// Kafka's default for `max.message.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;
/// A dead letter carries the whole original record and the headers of its reason.
const DEAD_LETTER_OVERHEAD_BYTES: usize = 64 * 1024;

/// Creates the topic and the dead-letter topic if they do not exist.
///
/// # Errors
/// When the cluster does not respond in time, or rejects the request.
pub async fn ensure(settings: &KafkaSettings, metadata: &Arc<MetadataClient>) -> Result<(), KafkaError> {
    let retention = settings.retention.as_millis().to_string();
    let largest = (DEFAULT_MAX_MESSAGE_BYTES + DEAD_LETTER_OVERHEAD_BYTES).to_string();
    let in_sync = if settings.replication >= 3 { "2" } else { "1" };
    let topic = |name| {
        NewTopic::new(
            name,
            settings.partitions,
            TopicReplication::Fixed(settings.replication),
        )
        .set("unclean.leader.election.enable", "false")
        .set("min.insync.replicas", in_sync)
    };
    let topics = [
        // The brokers' clock sets all timestamps.
        topic(&settings.topic)
            .set("message.timestamp.type", "LogAppendTime")
            .set("retention.ms", &retention),
        topic(&settings.dead_letter_topic)
            .set("retention.ms", "-1")
            .set("max.message.bytes", &largest),
    ];
    for topic in &topics {
        let name = topic.name.to_owned();
        // Checked first, because a client that may read need not have the permission to create.
        if !metadata
            .request(move |metadata| metadata.has_topic(&name))
            .await?
        {
            create(&client::shared(settings).create()?, topic).await?;
        }
    }
    Ok(())
}

const CREATE_TIMEOUT: Duration = Duration::from_secs(5);

async fn create(admin: &AdminClient<DefaultClientContext>, topic: &NewTopic<'_>) -> Result<(), KafkaError> {
    let options = AdminOptions::new()
        .operation_timeout(Some(CREATE_TIMEOUT))
        .request_timeout(Some(CREATE_TIMEOUT));
    for result in admin.create_topics([topic], &options).await? {
        match result {
            Ok(name) => tracing::info!(topic = name, "topic created"),
            // Another replica of this service has created it.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(KafkaError::AdminOp(code)),
        }
    }
    Ok(())
}
