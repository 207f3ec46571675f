//! The configuration of librdkafka: the operator's properties, and those that the delivery guarantees require.

use ::kafka::{Connection, TopicSpec};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use thiserror::Error;

use crate::config::{KafkaSettings, LimitSettings};

/// librdkafka's value for an unlimited number of queued messages.
const UNLIMITED: &str = "0";

/// The largest queue in KiB; librdkafka has no value for an unlimited one.
const MAX_QUEUE_KIB: &str = "2147483647";

/// librdkafka rejects the configuration.
#[derive(Debug, Error)]
pub enum ClientError {
    /// An unknown property or an invalid value. The value may be a secret.
    #[error("invalid `kafka.properties`: unknown property or invalid value of `{name}`")]
    Property {
        /// The property's name.
        name: String,
    },
    /// The properties contradict each other, or name a file that can't be read.
    #[error("invalid `kafka.properties`: {0}")]
    Create(String),
    /// The operating system refuses a file descriptor.
    #[error("failed to wait for delivery reports")]
    Events(#[source] std::io::Error),
}

impl From<KafkaError> for ClientError {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::ClientConfig(_, _, name, _) => Self::Property { name },
            KafkaError::ClientCreation(reason) => Self::Create(reason),
            other => Self::Create(other.to_string()),
        }
    }
}

/// How every client connects.
pub(crate) fn connection(settings: &KafkaSettings) -> Connection {
    let properties = settings.librdkafka_properties();
    let properties = properties.map(|(name, value)| (name, value.expose().to_owned()));
    Connection::new("affluent-publisher", &settings.brokers, properties)
}

/// The topic of the records.
pub(crate) fn topic(settings: &KafkaSettings, name: &str) -> TopicSpec {
    TopicSpec::records(
        name,
        settings.partitions,
        settings.replication,
        settings.min_insync_replicas,
        settings.retention,
    )
}

/// librdkafka's default of `batch.size`, in bytes. Kafka's own 16 KiB costs three fifths of the throughput.
const DEFAULT_BATCH_SIZE: usize = 1_000_000;

/// The largest batch of a producer with these settings, in bytes, where the topic allows more.
pub(crate) fn batch_size(settings: &KafkaSettings) -> usize {
    let config = connection(settings).config();
    let set = config.get("batch.size").and_then(|size| size.parse().ok());
    set.unwrap_or(DEFAULT_BATCH_SIZE)
}

/// The configuration of a producer whose batches have at most `batch_size` bytes.
pub(crate) fn producer(settings: &KafkaSettings, limits: &LimitSettings, batch_size: usize) -> ClientConfig {
    let mut config = connection(settings).config();
    if config.get("compression.type").is_none() {
        config.set("compression.type", "lz4");
    }
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // The partitioner of Java clients; a null key would go to a random partition.
        .set("partitioner", "murmur2_random")
        .set("linger.ms", settings.linger.as_millis().to_string())
        .set(
            "message.timeout.ms",
            settings.message_timeout.as_millis().to_string(),
        )
        .set("message.max.bytes", max_message_bytes(limits).to_string())
        .set("batch.size", batch_size.to_string())
        .set(
            "statistics.interval.ms",
            settings.statistics_interval.as_millis().to_string(),
        )
        // Admission limits this queue, and releases a record a moment before librdkafka does. If the queue were full
        // in the middle of a request, the outcome of the request would be unknown.
        .set("queue.buffering.max.messages", UNLIMITED)
        .set("queue.buffering.max.kbytes", MAX_QUEUE_KIB);
    config
}

/// The producer's limit of a message, in bytes: its default, or the largest record with key and headers. The topic's
/// limit is checked before a record is queued.
fn max_message_bytes(limits: &LimitSettings) -> u64 {
    let record = limits.max_record.as_u64().saturating_add(16 * 1024);
    record.clamp(1_000_000, 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use rdkafka::producer::BaseProducer;
    use service::Secret;

    use super::*;

    fn settings(name: &str, value: &str) -> KafkaSettings {
        KafkaSettings {
            properties: [(name.to_owned(), Secret::new(value))].into(),
            ..KafkaSettings::default()
        }
    }

    fn create(settings: &KafkaSettings) -> Result<BaseProducer, ClientError> {
        Ok(config(settings).create()?)
    }

    fn config(settings: &KafkaSettings) -> ClientConfig {
        producer(settings, &LimitSettings::default(), batch_size(settings))
    }

    #[test]
    fn defaults_and_an_operators_property_are_valid() {
        let zstd = settings("compression_type", "zstd");
        assert!(create(&zstd).is_ok());
        let config = config(&zstd);
        assert_eq!(config.get("compression.type"), Some("zstd"));
        assert_eq!(config.get("acks"), Some("all"));
        assert_eq!(config.get("batch.size"), Some("1000000"));
        let codec = self::config(&settings("topic_compression_codec", "gzip"));
        assert_eq!(codec.get("compression.type"), Some("gzip"));
        let small = self::config(&settings("batch_size", "500"));
        assert_eq!(small.get("batch.size"), Some("500"));
    }

    #[test]
    fn invalid_property_is_named_without_its_value() {
        for (name, value) in [("no.such.key", "hunter2"), ("socket_timeout_ms", "hunter2")] {
            let error = create(&settings(name, value)).err().unwrap().to_string();
            assert!(error.contains(&name.replace('_', ".")), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = create(&settings("ssl.ca.location", "/nowhere")).map(drop);
        assert!(error.is_ok(), "only a TLS connection reads the file");
        let both = KafkaSettings {
            properties: [
                ("security.protocol".to_owned(), Secret::new("ssl")),
                ("ssl.ca.location".to_owned(), Secret::new("/nowhere")),
            ]
            .into(),
            ..KafkaSettings::default()
        };
        assert!(matches!(create(&both), Err(ClientError::Create(_))));
    }
}
