//! The events of a client: errors of its connections, and librdkafka's log lines.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The context of a client whose owner reports outages itself.
///
/// librdkafka repeats its message at each attempt to connect, so the lines are logged at level debug only. The last error
/// of a connection is kept, because it names the address and the cause.
#[derive(Debug, Default)]
pub struct ClientEvents {
    connection_error: Mutex<Option<String>>,
}

impl ClientEvents {
    /// The last error of a connection since the last call of [`clear`](Self::clear).
    pub fn connection_error(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Keeps an error of a request, unless one of a connection is known.
    pub(crate) fn unanswered(&self, error: String) {
        self.lock().get_or_insert(error);
    }

    /// Forgets the error, because the brokers respond.
    pub fn clear(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.connection_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for ClientEvents {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client event");
        if error.rdkafka_error_code().is_some_and(is_connection_error) {
            *self.lock() = Some(constant_part(reason).to_owned());
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }
}

impl ConsumerContext for ClientEvents {}

/// Logs a line of librdkafka. Errors of connections have its level `Error`, and readiness reports them.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, message);
        }
        _ => tracing::debug!(target: "librdkafka", facility, message),
    }
}

/// Whether a connection could not be established or has failed. `AllBrokersDown` only counts such errors.
pub fn is_connection_error(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure | Code::Resolve | Code::SSL | Code::OperationTimedOut
    )
}

/// Returns an error of librdkafka without its suffix, which counts milliseconds and repetitions.
#[must_use]
pub fn constant_part(reason: &str) -> &str {
    reason.split(" (after ").next().unwrap_or(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_connection_error_is_kept_without_its_counters() {
        let events = ClientEvents::default();
        events.error(
            KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure),
            "a:1/2: Connect to ipv4#10.0.0.1:1 failed: Connection refused (after 3ms in state CONNECT)",
        );
        events.error(
            KafkaError::Global(RDKafkaErrorCode::AllBrokersDown),
            "1/1 brokers are down",
        );
        assert_eq!(
            events.connection_error().as_deref(),
            Some("a:1/2: Connect to ipv4#10.0.0.1:1 failed: Connection refused")
        );
        events.clear();
        assert_eq!(events.connection_error(), None);
    }
}
