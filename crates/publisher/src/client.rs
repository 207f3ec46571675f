//! How librdkafka is configured: what the operator sets, and what the publisher's promises rest on.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use thiserror::Error;

use crate::settings::{KafkaSettings, LimitSettings};

/// librdkafka's word for a queue without a bound in messages.
const NO_BOUND: &str = "0";

/// Its largest bound in KiB; it has no word for none.
const MOST_KIB: &str = "2147483647";

/// librdkafka refuses the configuration.
#[derive(Debug, Error)]
pub enum ClientError {
    /// A property that it does not know, or a value that it does not take. The value may be a secret.
    #[error("`kafka.properties`: librdkafka refuses `{name}`")]
    Property {
        /// The property's name.
        name: String,
    },
    /// The properties do not go together, or name a file that can't be read.
    #[error("`kafka.properties`: {0}")]
    Create(String),
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

/// What every connection to the cluster needs. It must not be logged: its `Debug` shows some secrets.
pub(crate) fn connection(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "affluent-publisher")
        .set("socket.keepalive.enable", "true")
        .set("socket.connection.setup.timeout.ms", "5000")
        // A broker that comes back must be found at once, and the defaults back off to ten seconds.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        // The default of five minutes hides new leaders and new partitions.
        .set("topic.metadata.refresh.interval.ms", "30000");
    for (name, value) in settings.librdkafka_properties() {
        config.set(name, value.expose());
    }
    config.set("bootstrap.servers", settings.brokers.join(","));
    config
}

/// What the one producer needs besides.
pub(crate) fn producer(settings: &KafkaSettings, limits: &LimitSettings) -> ClientConfig {
    let mut config = connection(settings);
    if config.get("compression.type").is_none() && config.get("compression.codec").is_none() {
        config.set("compression.type", "lz4");
    }
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Agrees with Java clients; a null key would go to a random partition.
        .set("partitioner", "murmur2_random")
        .set("linger.ms", settings.linger.as_millis().to_string())
        .set(
            "message.timeout.ms",
            settings.message_timeout.as_millis().to_string(),
        )
        .set("message.max.bytes", largest_request(limits).to_string())
        .set(
            "statistics.interval.ms",
            settings.statistics_interval.as_millis().to_string(),
        )
        // Admission bounds this queue, and hears of the end of a record a moment before librdkafka takes it off its own
        // count. A bound here, met in the middle of a request, would leave the request in doubt.
        .set("queue.buffering.max.messages", NO_BOUND)
        .set("queue.buffering.max.kbytes", MOST_KIB);
    config
}

/// The producer's own limit on what it sends at once, in bytes: its default, or room for the largest record with
/// its key and headers. The topic's limit is the one that counts, and the broker tells it.
fn largest_request(limits: &LimitSettings) -> u64 {
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
        Ok(producer(settings, &LimitSettings::default()).create()?)
    }

    #[test]
    fn librdkafka_takes_the_defaults_and_an_operators_property() {
        let zstd = settings("compression_type", "zstd");
        assert!(create(&zstd).is_ok());
        let config = producer(&zstd, &LimitSettings::default());
        assert_eq!(config.get("compression.type"), Some("zstd"));
        assert_eq!(config.get("acks"), Some("all"));
    }

    #[test]
    fn what_librdkafka_refuses_is_named_without_its_value() {
        for (name, value) in [("no.such.key", "hunter2"), ("socket_timeout_ms", "hunter2")] {
            let error = create(&settings(name, value)).err().unwrap().to_string();
            assert!(error.contains(&name.replace('_', ".")), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = create(&settings("ssl.ca.location", "/nowhere")).map(drop);
        assert!(error.is_ok(), "only a TLS connection reads it");
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
