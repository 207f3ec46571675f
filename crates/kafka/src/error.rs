//! Errors of Kafka that only the operator can fix.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

/// Kafka rejected the client's configuration, credentials or permissions.
#[derive(Debug, Error)]
#[error("failed to {request} rejected this client: check kafka.properties and the client's permissions")]
pub struct ClientRejected {
    /// The operation and the brokers, in one text because errors are moved around.
    request: String,
    source: KafkaError,
}

impl ClientRejected {
    /// Adds the operation, as an infinitive with its topic or group, and the configured brokers to an error for which
    /// [`is_rejected`] holds.
    pub fn new(operation: &str, brokers: &[String], source: KafkaError) -> Self {
        Self {
            request: format!("{operation}: kafka.brokers {}", brokers.join(",")),
            source,
        }
    }

    /// Adds the configured brokers to the error of a client that librdkafka does not create.
    pub fn configuration(brokers: &[String], source: KafkaError) -> Self {
        Self::new("create a Kafka client", brokers, source)
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

/// Whether the code reports rejected credentials.
pub(crate) fn is_failed_login(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::IllegalSASLState
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
