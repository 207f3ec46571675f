//! The librdkafka configuration that all clients share.

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::settings::KafkaSettings;

/// Brokers, then the operator's own properties. `_` in a property's name stands for `.`.
pub fn shared(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", settings.brokers.join(","))
        .set("client.id", "affluent-streamer")
        // librdkafka's five minutes hide new partitions and a moved leader.
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("reconnect.backoff.max.ms", "1000")
        // A half-open connection swallows requests until one of them is given up: librdkafka's minute is a minute of
        // nothing. No broker takes this long for what is asked of it here; joining a group has a timeout of its own.
        .set("socket.timeout.ms", "10000")
        .set("socket.keepalive.enable", "true");
    for (name, value) in &settings.properties {
        config.set(name.replace('_', "."), value);
    }
    config
}

/// Whether only the operator can mend it: credentials and rights.
pub fn is_refusal(code: RDKafkaErrorCode) -> bool {
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

/// Whether only the operator can mend it.
pub fn is_refused(error: &KafkaError) -> bool {
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    code.is_some_and(is_refusal)
}
