//! The callbacks of the producer, called by librdkafka's threads: delivery reports, errors, statistics and logs.

use std::error::Error;
use std::sync::Arc;

use ::kafka::client::oauth::{TokenOutcome, TokenSource};
use ::kafka::events::generate_token;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Statistics};

use super::status::KafkaStatus;
use crate::metrics::PublisherMetrics;
use crate::publish::delivery::{DeliveryOutcome, DeliveryToken};

/// Forwards the reports of librdkafka.
pub(super) struct ProducerCallbacks {
    pub(super) status: KafkaStatus,
    pub(super) metrics: Arc<PublisherMetrics>,
    pub(super) tokens: Option<Arc<TokenSource>>,
}

impl ClientContext for ProducerCallbacks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        generate_token(self.tokens.as_deref())
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let outcome = self.tokens.as_ref().map(|tokens| tokens.last());
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication) if outcome != Some(TokenOutcome::Unavailable) => {
                self.status.authentication_failed(reason)
            }
            // Only counts the brokers that are down; another event has reported the cause.
            Some(RDKafkaErrorCode::AllBrokersDown) => {}
            _ => self.status.record_error(reason),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.metrics.record_statistics(&statistics);
    }

    /// The topic monitor logs each outage once. librdkafka repeats its message at each attempt to connect.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        ::kafka::events::log_line(level, facility, message);
    }
}

impl ProducerContext for ProducerCallbacks {
    type DeliveryOpaque = Box<DeliveryToken>;

    fn delivery(&self, result: &DeliveryResult<'_>, token: Box<DeliveryToken>) {
        token.complete(match result {
            Ok(message) => DeliveryOutcome::Written {
                partition: message.partition(),
                offset: message.offset(),
            },
            Err((error, _)) => DeliveryOutcome::from(error),
        });
    }
}
