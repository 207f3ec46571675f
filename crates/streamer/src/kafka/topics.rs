//! The two topics: created where they are absent, left alone where they are present.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::kafka::broker::Broker;
use crate::kafka::client;
use crate::settings::KafkaSettings;

/// Kafka's default for a topic's largest batch.
const LARGEST_MESSAGE: usize = 1_048_588;
/// A dead letter carries its original whole, and headers that say why.
const DEAD_LETTER_MORE: usize = 64 * 1024;

/// Creates the main topic and the dead-letter topic if they are absent.
///
/// # Errors
/// When the cluster does not answer in time or refuses.
pub async fn ensure(settings: &KafkaSettings, broker: &Arc<Broker>) -> Result<(), KafkaError> {
    let retention = settings.retention.as_millis().to_string();
    let largest = (LARGEST_MESSAGE + DEAD_LETTER_MORE).to_string();
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
        // One clock stamps all records: the brokers'.
        topic(&settings.topic)
            .set("message.timestamp.type", "LogAppendTime")
            .set("retention.ms", &retention),
        topic(&settings.dead_letter_topic)
            .set("retention.ms", "-1")
            .set("max.message.bytes", &largest),
    ];
    for topic in &topics {
        let name = topic.name.to_owned();
        // Asked first: a client that may read need not be allowed to create.
        if !broker.ask(move |broker| broker.has_topic(&name)).await? {
            create(&client::shared(settings).create()?, topic).await?;
        }
    }
    Ok(())
}

const DEADLINE: Duration = Duration::from_secs(5);

async fn create(admin: &AdminClient<DefaultClientContext>, topic: &NewTopic<'_>) -> Result<(), KafkaError> {
    let options = AdminOptions::new()
        .operation_timeout(Some(DEADLINE))
        .request_timeout(Some(DEADLINE));
    for result in admin.create_topics([topic], &options).await? {
        match result {
            Ok(name) => tracing::info!(topic = name, "topic created"),
            // Another replica was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(KafkaError::AdminOp(code)),
        }
    }
    Ok(())
}
