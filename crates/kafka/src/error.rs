//! Errors of Kafka that only the operator can fix.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

/// Kafka rejected the client's configuration, credentials or permissions.
#[derive(Debug, Error)]
#[error("kafka.brokers {brokers} rejected this client: check kafka.properties and the client's permissions")]
pub struct ClientRejected {
    brokers: String,
    source: KafkaError,
}

impl ClientRejected {
    /// Adds the configured brokers to an error for which [`is_rejected`] holds, or to a rejected configuration.
    pub fn new(brokers: &[String], source: KafkaError) -> Self {
        Self {
            brokers: brokers.join(","),
            source,
        }
    }
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
