//! How the streamer's clients connect, and what its topics have to be.

use std::time::Duration;

use ::kafka::{Connection, MetadataClient, PlannedClient, TopicSpec};
use rdkafka::error::KafkaError;

use crate::config::KafkaSettings;

/// How every client connects.
pub fn connection(settings: &KafkaSettings) -> Connection {
    // A half-open connection blocks until a request times out, after a minute by default. No request of this process
    // takes 10 s on a broker. Joining a group has its own timeout.
    connection_with(settings, [("socket.timeout.ms", "10000".to_owned())])
}

/// How a consumer with `queues` queues of partitions connects. Together they hold the buffer, and a response has room for a
/// share of each: those beyond its end would wait for the next one. The operator's properties override these defaults.
pub fn fetch_connection(settings: &KafkaSettings, queues: i32) -> Connection {
    let buffer = settings.fetch_buffer.as_u64();
    let response = (buffer / UNPACKING_FACTOR).max(MIN_RESPONSE_BYTES);
    let queues = u64::try_from(queues).unwrap_or(0).max(1);
    connection_with(
        settings,
        [
            // A response that a quota holds back is no lost one: at most eleven seconds by Kafka's default window.
            ("socket.timeout.ms", "15000".to_owned()),
            // librdkafka's default of one second stalls a consumer with a small buffer.
            ("fetch.queue.backoff.ms", "5".to_owned()),
            ("fetch.wait.max.ms", "100".to_owned()),
            ("fetch.max.bytes", response.to_string()),
            // The first batch of a response is sent even if it is larger.
            ("fetch.message.max.bytes", (response / queues).to_string()),
            (
                "queued.max.messages.kbytes",
                (buffer.max(MIN_RESPONSE_BYTES) / queues / 1024)
                    .max(1)
                    .to_string(),
            ),
            // librdkafka unpacks a batch into a buffer that grows threefold until it fits, at most to this size. The
            // default of 100 MB refuses valid batches of 34 MB.
            (
                "receive.message.max.bytes",
                UNPACKED_BATCH_BYTES.max(2 * response).to_string(),
            ),
        ],
    )
}

/// How records are fetched into `queues` queues of partitions.
pub(super) fn fetch_config(settings: &KafkaSettings, queues: i32) -> rdkafka::ClientConfig {
    let mut config = fetch_connection(settings, queues).config();
    config
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false");
    config
}

/// The consumer, and the producer of dead letters, as far as properties can contradict the streamer's own.
pub fn planned(settings: &KafkaSettings) -> [PlannedClient; 2] {
    let mut consumer = fetch_connection(settings, settings.partitions).config();
    let session = settings.session_timeout.as_millis();
    consumer.set("session.timeout.ms", session.to_string());
    let mut producer = connection(settings).config();
    producer.set("enable.idempotence", "true");
    [
        PlannedClient::Consumer(consumer),
        PlannedClient::Producer(producer),
    ]
}

/// Records take several times the memory of the compressed response that they arrive in.
const UNPACKING_FACTOR: u64 = 4;
/// A response has room for the largest batch of Kafka's default.
const MIN_RESPONSE_BYTES: u64 = 1 << 20;
/// The maximum size of the buffer into which a compressed batch is unpacked. There may be three: of the batch that
/// is being unpacked, of records that are processed, and of the consumer that looks for the partition that can't be read. The
/// manifests allow as much memory as they and the rest need.
const UNPACKED_BATCH_BYTES: u64 = 128 << 20;

fn connection_with<const N: usize>(settings: &KafkaSettings, defaults: [(&str, String); N]) -> Connection {
    let defaults = defaults.map(|(name, value)| (name.to_owned(), value));
    let properties = settings.properties.iter();
    let properties = properties.map(|(name, value)| (name.clone(), value.clone()));
    Connection::new(
        "affluent-streamer",
        &settings.brokers,
        defaults.into_iter().chain(properties),
    )
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

/// The topic of the dead letters of records of at most `max_message_bytes`. `retention`: none is for ever.
pub fn dead_letter_topic(
    settings: &KafkaSettings,
    max_message_bytes: Option<usize>,
    retention: Option<Duration>,
) -> TopicSpec {
    let spec = TopicSpec::dead_letters(
        settings.dead_letter_topic(),
        settings.partitions,
        settings.replication,
        settings.min_insync_replicas,
        max_message_bytes,
        retention,
    );
    spec.with_remedy("streamer dead-letters retention --apply")
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

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;

    #[test]
    fn properties_override_the_defaults_of_fetches() {
        let mut settings = KafkaSettings::default();
        let config = fetch_connection(&settings, 6).config();
        assert_eq!(config.get("receive.message.max.bytes"), Some("134217728"));
        settings
            .properties
            .insert("receive_message_max_bytes".to_owned(), "400000000".to_owned());
        let config = fetch_connection(&settings, 6).config();
        assert_eq!(config.get("receive.message.max.bytes"), Some("400000000"));
    }

    #[test]
    fn response_has_room_for_every_partition() {
        let settings = KafkaSettings::default();
        for partitions in [1, 6, 16, 48, 96, 1_000] {
            let config = fetch_connection(&settings, partitions).config();
            let size = |name| config.get(name).unwrap().parse::<i32>().unwrap();
            let (share, response) = (size("fetch.message.max.bytes"), size("fetch.max.bytes"));
            assert!(share * partitions <= response, "{partitions} partitions");
        }
    }

    #[test]
    fn any_fetch_buffer_is_a_valid_configuration() {
        for fetch_buffer in [ByteSize::kib(1), ByteSize::mib(4), ByteSize::mib(500)] {
            let settings = KafkaSettings {
                fetch_buffer,
                ..KafkaSettings::default()
            };
            let config = fetch_connection(&settings, 6).config();
            assert!(config.create_native_config().is_ok(), "{fetch_buffer}");
        }
    }
}
