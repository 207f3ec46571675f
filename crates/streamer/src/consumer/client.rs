//! The librdkafka configuration that all clients share, and the errors that need the operator.

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use crate::settings::KafkaSettings;

/// Kafka rejected the client's configuration, credentials or permissions.
#[derive(Debug, Error)]
#[error("kafka.brokers {brokers} rejected this client: check kafka.properties and the client's permissions")]
pub struct ClientRejected {
    brokers: String,
    source: KafkaError,
}

impl ClientRejected {
    /// Adds the configured brokers to an error for which [`is_rejected`] holds, or to a rejected configuration.
    pub fn new(settings: &KafkaSettings, source: KafkaError) -> Self {
        Self {
            brokers: settings.brokers.join(","),
            source,
        }
    }
}

/// Returns the configuration of brokers and timeouts, overridden by `kafka.properties`. `_` in a property's name
/// means `.`.
pub fn shared(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", settings.brokers.join(","))
        .set("client.id", "affluent-streamer")
        // librdkafka's default of five minutes hides new partitions and new leaders.
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("reconnect.backoff.max.ms", "1000")
        // A half-open connection blocks until a request times out, after a minute by default. No request of this
        // process takes 10 s on a broker. Joining a group has its own timeout.
        .set("socket.timeout.ms", "10000")
        .set("socket.keepalive.enable", "true");
    for (name, value) in &settings.properties {
        config.set(name.replace('_', "."), value);
    }
    config
}

/// Whether the code reports rejected credentials or permissions, which only the operator can fix.
pub fn is_rejection(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::IllegalSASLState
            | Code::UnsupportedSASLMechanism
    )
}

/// Whether the error reports rejected credentials or permissions.
pub fn is_rejected(error: &KafkaError) -> bool {
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    code.is_some_and(is_rejection)
}
