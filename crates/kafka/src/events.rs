//! The events of a client: errors of its connections, and librdkafka's log lines.

mod producer_events;

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub use self::producer_events::ProducerEvents;

use crate::client::Connection;
use crate::client::oauth::{TokenOutcome, TokenSource};
use crate::error::{is_failed_login, is_rejected};

/// The context of a client whose owner reports outages itself.
///
/// librdkafka repeats its message at each attempt to connect, so the lines are logged at level debug only. The last error
/// of a connection is kept, because it names the address and the cause.
#[derive(Default)]
pub struct ClientEvents {
    connection_error: Mutex<Option<String>>,
    tokens: Option<Arc<TokenSource>>,
    /// A request of this client succeeded.
    is_established: AtomicBool,
}

impl ClientEvents {
    /// The context of a client of this connection.
    #[must_use]
    pub fn new(connection: &Connection) -> Self {
        Self {
            connection_error: Mutex::default(),
            tokens: connection.tokens(),
            is_established: AtomicBool::new(false),
        }
    }

    /// Whether the error reports rejected credentials or permissions, which only the operator can fix.
    ///
    /// A missing token is no rejection while the token endpoint is unavailable. Nor is an expired one of a client that was
    /// accepted before.
    pub fn is_rejected(&self, error: &KafkaError) -> bool {
        let is_login = error.rdkafka_error_code().is_some_and(is_failed_login);
        let may_pass = match self.tokens.as_ref().map(|tokens| tokens.last()) {
            Some(TokenOutcome::Unavailable) => is_login,
            Some(TokenOutcome::Granted) => is_login && self.is_established.load(Ordering::Relaxed),
            Some(TokenOutcome::Refused) | None => false,
        };
        is_rejected(error) && !may_pass
    }

    /// The last error of a connection since the last call of [`clear`](Self::clear).
    pub fn connection_error(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Keeps an error of a request, unless one of a connection is known.
    pub(crate) fn request_failed(&self, error: String) {
        self.lock().get_or_insert(error);
    }

    /// Forgets the error, because the brokers respond.
    pub fn clear(&self) {
        self.is_established.store(true, Ordering::Relaxed);
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.connection_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for ClientEvents {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        generate_token(self.tokens.as_deref())
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client event");
        let is_outage = is_rejected(&error) && !self.is_rejected(&error);
        if is_outage || error.rdkafka_error_code().is_some_and(is_connection_error) {
            *self.lock() = Some(constant_part(reason).to_owned());
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }
}

impl ConsumerContext for ClientEvents {}

/// Fetches a token for librdkafka, which requests one at a client's start and at 80 % of each token's lifetime.
///
/// # Errors
/// Without a source, or when it fails.
pub fn generate_token(tokens: Option<&TokenSource>) -> Result<OAuthToken, Box<dyn Error>> {
    let tokens = tokens.ok_or("sasl.oauthbearer.token.endpoint.url is not set")?;
    Ok(tokens.token()?)
}

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
    fn failed_login_is_an_outage_while_tokens_may_come() {
        let properties = [
            ("sasl.mechanism", "OAUTHBEARER"),
            // Nothing listens there.
            ("sasl.oauthbearer.token.endpoint.url", "http://127.0.0.1:1/token"),
        ];
        let connection = Connection::new("test", &["a:1".to_owned()], properties);
        let login = KafkaError::Global(RDKafkaErrorCode::Authentication);
        let topic = KafkaError::Global(RDKafkaErrorCode::TopicAuthorizationFailed);

        let events = ClientEvents::new(&connection);
        assert!(events.is_rejected(&login), "the first token is refused");
        events.clear();
        assert!(!events.is_rejected(&login), "a later token has expired");
        assert!(events.is_rejected(&topic));

        let events = ClientEvents::new(&connection);
        assert!(connection.tokens().unwrap().token().is_err());
        assert!(!events.is_rejected(&login), "the endpoint does not respond");
        assert!(events.is_rejected(&topic));
        assert!(
            ClientEvents::default().is_rejected(&login),
            "a wrong password stays wrong"
        );
    }

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
