//! The settings: their defaults and the rules between them. The README lists the keys.
//!
//! `service::config` reads the file and the environment.

mod http;
mod kafka;
mod limits;

use std::time::Duration;

use ::kafka::PlannedClient;
use ::kafka::client::check;
use serde::{Deserialize, Serialize};
use service::config::{Settings, Violations};
use service::http::listen_policy::ListenPolicy;
use service::{AuthSettings, ProcessSettings, RecordSettings, TelemetrySettings};

pub use http::{AccessLog, HttpSettings, TlsSettings};
pub use kafka::KafkaSettings;
pub use limits::{IdempotencySettings, LimitSettings, RateLimitSettings};

use crate::kafka::client;

/// librdkafka checks once a second for messages that timed out, so one fails a little after `message_timeout`.
pub(crate) const MESSAGE_TIMEOUT_SLACK: Duration = Duration::from_secs(2);

/// The settings of the publisher; its environment variables begin with `PUBLISHER__`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PublisherSettings {
    /// Admin port, shutdown, logs.
    pub process: ProcessSettings,
    /// Export of traces.
    pub telemetry: TelemetrySettings,
    /// The contract of the records.
    pub record: RecordSettings,
    /// The API's server.
    pub http: HttpSettings,
    /// TLS of the API.
    pub tls: TlsSettings,
    /// Who may publish.
    pub auth: AuthSettings,
    /// The rate limit of each caller.
    pub rate_limit: RateLimitSettings,
    /// Size and admission limits.
    pub limits: LimitSettings,
    /// The cache of idempotency keys.
    pub idempotency: IdempotencySettings,
    /// The Kafka producer and its topic.
    pub kafka: KafkaSettings,
}

impl Default for PublisherSettings {
    fn default() -> Self {
        Self {
            process: ProcessSettings::on_port(9082),
            telemetry: TelemetrySettings::default(),
            record: RecordSettings::default(),
            http: HttpSettings::default(),
            tls: TlsSettings::default(),
            auth: AuthSettings::default(),
            rate_limit: RateLimitSettings::default(),
            limits: LimitSettings::default(),
            idempotency: IdempotencySettings::default(),
            kafka: KafkaSettings::default(),
        }
    }
}

impl Settings for PublisherSettings {
    const SERVICE: &'static str = "publisher";
    const REFERENCE: &'static str = include_str!("../README.md");
    const MAY_BE_ZERO: &'static [&'static str] = &["kafka.linger", "kafka.statistics_interval"];

    fn validate(&self) -> Violations {
        let mut violations = Violations::default();
        let found = &mut violations;
        self.process.validate(found);
        self.telemetry.validate(found);
        self.record.validate(found);
        self.http.validate(found);
        self.tls.validate(found);
        self.auth.validate(found);
        self.listen_policy().validate(found);
        self.limits.validate(found);
        found.require_positive(&self.idempotency.entries, "idempotency.entries");
        self.kafka.validate(found);
        found.require(
            self.http.request_timeout
                >= self.http.body_timeout + self.kafka.message_timeout + MESSAGE_TIMEOUT_SLACK,
            "http.request_timeout",
            "must be at least 2s above the sum of http.body_timeout and kafka.message_timeout",
        );
        found.require(
            self.process.shutdown_grace >= self.longest_shutdown(),
            "process.shutdown_grace",
            "must be at least 2s above the sum of kafka.message_timeout and the longest of http.header_timeout, \
             http.body_timeout and http.write_timeout, or a shutdown could not finish the accepted requests",
        );
        violations
    }

    fn check_files(&self) -> Violations {
        let mut violations = Violations::default();
        self.record.check_files(&mut violations);
        self.auth.check_files(&mut violations);
        self.tls.check_files(&mut violations);
        self.kafka.check_files(&mut violations);
        // librdkafka would refuse the producer for the same.
        if !violations.any_in("kafka") && !self.validate().any_in("kafka") {
            let producer = client::producer(&self.kafka, &self.limits, client::batch_size(&self.kafka));
            if let Some(words) = check::refusal([PlannedClient::Producer(producer)]) {
                violations.add("kafka.properties", format!("librdkafka refuses them: {words}"));
            }
        }
        violations
    }
}

impl PublisherSettings {
    /// The longest time that a shutdown takes. Queued records are acknowledged or fail within `message_timeout`; their
    /// responses are read within `write_timeout`. A request that is still arriving arrives or times out first.
    fn longest_shutdown(&self) -> Duration {
        let http = &self.http;
        let slowest = http.header_timeout.max(http.body_timeout).max(http.write_timeout);
        slowest + self.kafka.message_timeout + MESSAGE_TIMEOUT_SLACK
    }

    /// The largest body, in bytes.
    pub(crate) fn largest_body(&self) -> usize {
        usize::try_from(self.limits.max_body.as_u64()).unwrap_or(usize::MAX)
    }

    fn listen_policy(&self) -> ListenPolicy<'_> {
        ListenPolicy {
            key: "http.listen",
            listen: self.http.listen,
            callers_known: self.auth.requires_token() || self.tls.client_ca_path.is_some(),
            allow_anonymous: self.http.allow_anonymous,
            remedy: "auth.tokens_path, auth.jwt.issuer or tls.client_ca_path, or http.allow_anonymous to accept anonymous callers",
        }
    }
}

#[cfg(test)]
mod tests;
