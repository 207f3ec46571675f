//! The topic: created when it is absent, compared when it is there. One that exists is never changed; what differs
//! is told, because someone may have wanted it so.

use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use thiserror::Error;

use crate::client;
use crate::settings::KafkaSettings;

const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The topic could not be created or looked at.
#[derive(Debug, Error)]
pub(crate) enum TopicError {
    /// The cluster was not asked, or did not answer.
    #[error("ask the cluster about the topic")]
    Ask(#[source] KafkaError),
    /// The cluster does not create it.
    #[error("create the topic: {0}")]
    Refused(RDKafkaErrorCode),
}

/// What is wanted of a topic that is created.
fn wanted(settings: &KafkaSettings) -> Vec<(&'static str, String)> {
    vec![
        // One clock stamps, the broker's.
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", settings.retention.as_millis().to_string()),
        ("min.insync.replicas", settings.min_insync_replicas.to_string()),
        // A replica that lags behind must not become the truth.
        ("unclean.leader.election.enable", "false".to_owned()),
    ]
}

/// Creates the topic. That someone else was faster is as good.
///
/// # Errors
/// Each [`TopicError`].
pub(crate) async fn create(settings: &KafkaSettings) -> Result<(), TopicError> {
    let configs = wanted(settings);
    let topic = NewTopic {
        name: &settings.topic,
        num_partitions: settings.partitions,
        replication: TopicReplication::Fixed(settings.replication),
        config: configs
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect(),
    };
    let admin = admin(settings)?;
    let outcome = admin.create_topics([&topic], &options()).await;
    dispose(admin);
    match outcome.map_err(TopicError::Ask)?.pop() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(TopicError::Refused(code)),
        Some(Ok(_)) | None => {
            tracing::info!(
                topic = settings.topic,
                partitions = settings.partitions,
                "topic created"
            );
            Ok(())
        }
    }
}

/// Tells in the log what an existing topic has otherwise than a created one would. Returns how many replicas must
/// have a record before it counts as written.
///
/// # Errors
/// [`TopicError::Ask`].
pub(crate) async fn compare(settings: &KafkaSettings, partitions: usize) -> Result<usize, TopicError> {
    let admin = admin(settings)?;
    let name = ResourceSpecifier::Topic(&settings.topic);
    let described = admin.describe_configs([&name], &options()).await;
    dispose(admin);
    let described = described.map_err(TopicError::Ask)?.pop();
    let config = described
        .transpose()
        .map_err(|code| TopicError::Ask(KafkaError::AdminOp(code)))?;
    for (name, found, wanted) in differences(settings, partitions, config.as_ref()) {
        tracing::warn!(
            topic = settings.topic,
            name,
            found,
            wanted,
            "the topic differs and is left as it is"
        );
    }
    let min_insync =
        config.and_then(|config| config.get("min.insync.replicas")?.value.as_ref()?.parse().ok());
    Ok(min_insync.unwrap_or(1))
}

fn differences(
    settings: &KafkaSettings,
    partitions: usize,
    config: Option<&ConfigResource>,
) -> Vec<(&'static str, String, String)> {
    let found = |name| config?.get(name)?.value.clone();
    let mut differences = vec![(
        "partitions",
        partitions.to_string(),
        settings.partitions.to_string(),
    )];
    for (name, wanted) in wanted(settings) {
        differences.push((name, found(name).unwrap_or_default(), wanted));
    }
    differences.retain(|(_, found, wanted)| found != wanted);
    differences
}

/// Why the topic can't be written right now, if it can't.
pub(crate) fn obstacle(topic: &MetadataTopic, min_insync: usize) -> Option<String> {
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

fn admin(settings: &KafkaSettings) -> Result<AdminClient<DefaultClientContext>, TopicError> {
    client::connection(settings).create().map_err(TopicError::Ask)
}

/// Closing a client waits for its threads, which must not hold up the requests.
fn dispose(admin: AdminClient<DefaultClientContext>) {
    drop(tokio::task::spawn_blocking(move || drop(admin)));
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ADMIN_TIMEOUT))
        .operation_timeout(Some(ADMIN_TIMEOUT))
}
