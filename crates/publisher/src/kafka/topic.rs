//! Creates the topic if it is absent, and compares an existing one with the settings. An existing topic is never
//! changed; differences are logged, because they may be intended.

use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use thiserror::Error;

use super::client;
use crate::settings::KafkaSettings;

const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// An admin request for the topic failed.
#[derive(Debug, Error)]
#[error("failed to {operation} topic {topic}")]
pub(crate) struct TopicError {
    operation: &'static str,
    topic: String,
    #[source]
    source: KafkaError,
}

/// The configuration of a created topic.
fn topic_config(settings: &KafkaSettings) -> Vec<(&'static str, String)> {
    vec![
        // The broker's clock is the only one that sets timestamps.
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", settings.retention.as_millis().to_string()),
        ("min.insync.replicas", settings.min_insync_replicas.to_string()),
        // A lagging replica must not become leader and lose acknowledged records.
        ("unclean.leader.election.enable", "false".to_owned()),
    ]
}

/// Creates the topic. Succeeds if it exists already.
///
/// # Errors
/// [`TopicError`].
pub(crate) async fn create(settings: &KafkaSettings) -> Result<(), TopicError> {
    let configs = topic_config(settings);
    let topic = NewTopic {
        name: &settings.topic,
        num_partitions: settings.partitions,
        replication: TopicReplication::Fixed(settings.replication),
        config: configs
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect(),
    };
    let failed = |source| error("create", settings, source);
    let admin = admin(settings).map_err(failed)?;
    let created = admin.create_topics([&topic], &options()).await;
    close(admin);
    match created.map_err(failed)?.pop() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(failed(KafkaError::AdminOp(code))),
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

/// Logs where an existing topic differs from the settings. Returns its `min.insync.replicas`.
///
/// # Errors
/// [`TopicError`].
pub(crate) async fn check_config(settings: &KafkaSettings, partitions: usize) -> Result<usize, TopicError> {
    let failed = |source| error("describe", settings, source);
    let admin = admin(settings).map_err(failed)?;
    let name = ResourceSpecifier::Topic(&settings.topic);
    let described = admin.describe_configs([&name], &options()).await;
    close(admin);
    let config = described
        .map_err(failed)?
        .pop()
        .transpose()
        .map_err(|code| failed(KafkaError::AdminOp(code)))?;
    for (name, found, wanted) in differences(settings, partitions, config.as_ref()) {
        tracing::warn!(
            topic = settings.topic,
            name,
            found,
            wanted,
            "topic differs from the settings and is not changed"
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
    for (name, wanted) in topic_config(settings) {
        differences.push((name, found(name).unwrap_or_default(), wanted));
    }
    differences.retain(|(_, found, wanted)| found != wanted);
    differences
}

/// Why the topic is not writable now; none if it is.
pub(crate) fn unwritable_reason(topic: &MetadataTopic, min_insync: usize) -> Option<String> {
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

fn error(operation: &'static str, settings: &KafkaSettings, source: KafkaError) -> TopicError {
    TopicError {
        operation,
        topic: settings.topic.clone(),
        source,
    }
}

fn admin(settings: &KafkaSettings) -> Result<AdminClient<DefaultClientContext>, KafkaError> {
    client::connection(settings).create()
}

/// Closing a client waits for its threads, which must not block the requests.
fn close(admin: AdminClient<DefaultClientContext>) {
    drop(tokio::task::spawn_blocking(move || drop(admin)));
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ADMIN_TIMEOUT))
        .operation_timeout(Some(ADMIN_TIMEOUT))
}
