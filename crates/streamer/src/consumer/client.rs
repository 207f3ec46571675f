//! How the streamer's clients connect, and what its topics have to be.

use ::kafka::{Connection, MetadataClient, TopicSpec};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use crate::config::KafkaSettings;

/// How every client connects.
pub fn connection(settings: &KafkaSettings) -> Connection {
    // A half-open connection blocks until a request times out, after a minute by default. No request of this process
    // takes 10 s on a broker. Joining a group has its own timeout.
    let timeout = ("socket.timeout.ms".to_owned(), "10000".to_owned());
    let properties = settings.properties.iter();
    let properties = properties.map(|(name, value)| (name.clone(), value.clone()));
    Connection::new(
        "affluent-streamer",
        &settings.brokers,
        std::iter::once(timeout).chain(properties),
    )
}

/// The configuration of a client.
pub fn config(settings: &KafkaSettings) -> ClientConfig {
    connection(settings).config()
}

/// The topic of the records.
pub fn topic(settings: &KafkaSettings) -> TopicSpec {
    TopicSpec::records(
        settings.topic(),
        settings.partitions,
        settings.replication,
        settings.min_insync_replicas,
        settings.retention,
    )
}

/// The topic of the dead letters of records of at most `max_message_bytes`.
pub fn dead_letter_topic(settings: &KafkaSettings, max_message_bytes: Option<usize>) -> TopicSpec {
    TopicSpec::dead_letters(
        settings.dead_letter_topic(),
        settings.partitions,
        settings.replication,
        settings.min_insync_replicas,
        max_message_bytes,
    )
}

/// A client for metadata requests about the topic and the group.
///
/// # Errors
/// When librdkafka rejects the configuration.
pub fn metadata(settings: &KafkaSettings) -> Result<MetadataClient, KafkaError> {
    MetadataClient::new(
        &connection(settings),
        &settings.group,
        settings.topic(),
        settings.probe_interval,
    )
}
