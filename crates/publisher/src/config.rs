//! The settings: their defaults and the rules between them. The README lists the keys.
//!
//! `service::config` reads the file and the environment.

mod kafka;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::config::{Settings, Violations};
use service::http::listen_policy::ListenPolicy;
use service::{AuthSettings, ProcessSettings, pem};

pub use kafka::KafkaSettings;

use crate::admission::RECORD_COST;

/// librdkafka checks once a second for messages that timed out, so one fails a little after `message_timeout`.
pub(crate) const MESSAGE_TIMEOUT_SLACK: Duration = Duration::from_secs(2);

/// The settings of the publisher; its environment variables begin with `PUBLISHER__`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PublisherSettings {
    /// Admin port, shutdown, logs.
    pub process: ProcessSettings,
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

/// The API's server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpSettings {
    /// The listen address; port 0 selects a free port, which is logged.
    pub listen: SocketAddr,
    /// Whether an address that is reachable from other machines may be served without authentication.
    pub allow_anonymous: bool,
    /// The maximum number of open connections; more wait in the operating system's queue.
    pub max_connections: usize,
    /// The timeout of a request's header, and of an idle connection.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub header_timeout: Duration,
    /// The timeout of a request's body.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub body_timeout: Duration,
    /// The minimum rate of a body, in bytes a second, after its first two seconds; zero disables it.
    pub min_body_rate: ByteSize,
    /// How long a caller may take to read a response.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub write_timeout: Duration,
    /// The maximum age of a connection. After it the caller has to connect again, so that callers spread over all
    /// replicas.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_connection_age: Duration,
    /// The timeout of a whole request. Longer than the sum of body and message timeout, because the response follows the
    /// producer's timeout.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub request_timeout: Duration,
    /// How often the files of `tls` and `auth` are checked for changes.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub reload_interval: Duration,
}

/// TLS of the API. Disabled without a certificate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSettings {
    /// The certificate chain, PEM.
    pub certificate_path: Option<PathBuf>,
    /// Its private key, PEM.
    pub key_path: Option<PathBuf>,
    /// The certificate authorities of callers, PEM; if not set, callers need no certificate.
    pub client_ca_path: Option<PathBuf>,
}

/// The rate limit of each caller, identified by the name of its token. Zero disables a limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimitSettings {
    /// Requests a second.
    pub requests_per_second: u32,
    /// Bytes of bodies a second, as sent.
    pub bytes_per_second: ByteSize,
}

/// The cache of responses, which are replayed to requests with the same idempotency key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct IdempotencySettings {
    /// The maximum number of responses.
    pub entries: usize,
    /// The maximum size of all responses.
    pub bytes: ByteSize,
    /// How long a response is kept.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub age: Duration,
}

/// Size limits of a request, and admission limits of all requests in flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitSettings {
    /// The largest body after decompression.
    pub max_body: ByteSize,
    /// The largest record, as sent.
    pub max_record: ByteSize,
    /// The maximum number of records in one request.
    pub max_records: usize,
    /// The maximum bytes in flight: bodies of pending requests, 700 bytes for each of their records, and unread responses.
    /// A request that does not fit gets 503.
    pub max_in_flight_bytes: ByteSize,
    /// The maximum number of records that Kafka has not acknowledged. A request that does not fit gets 503.
    pub max_in_flight_records: usize,
}

impl Default for PublisherSettings {
    fn default() -> Self {
        Self {
            process: ProcessSettings::on_port(9082),
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

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            allow_anonymous: false,
            max_connections: 4096,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            min_body_rate: ByteSize::kib(1),
            write_timeout: Duration::from_secs(10),
            max_connection_age: Duration::from_secs(3600),
            request_timeout: Duration::from_secs(30),
            reload_interval: Duration::from_secs(5),
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            max_body: ByteSize::mib(16),
            max_record: ByteSize::kib(64),
            max_records: 20_000,
            max_in_flight_bytes: ByteSize::mib(32),
            max_in_flight_records: 50_000,
        }
    }
}

impl Default for IdempotencySettings {
    fn default() -> Self {
        Self {
            entries: 10_000,
            bytes: ByteSize::mib(8),
            age: Duration::from_secs(600),
        }
    }
}

impl Settings for PublisherSettings {
    const SERVICE: &'static str = "publisher";

    fn validate(&self) -> Violations {
        let mut violations = Violations::default();
        let found = &mut violations;
        self.process.validate(found);
        self.http.validate(found);
        self.tls.validate(found);
        self.listen_policy().validate(found);
        self.limits.validate(found);
        require_positive(found, self.idempotency.entries, "idempotency.entries");
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
        self.auth.check_files(&mut violations);
        if let (Some(certificate), Some(key)) = (&self.tls.certificate_path, &self.tls.key_path) {
            let (certificate, key) = (("tls.certificate_path", &**certificate), ("tls.key_path", &**key));
            pem::check_key_pair(&mut violations, certificate, key);
        }
        if let Some(path) = &self.tls.client_ca_path {
            pem::check_authorities(&mut violations, "tls.client_ca_path", path);
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
            callers_known: self.auth.tokens_path.is_some() || self.tls.client_ca_path.is_some(),
            allow_anonymous: self.http.allow_anonymous,
            remedy: "auth.tokens_path or tls.client_ca_path, or http.allow_anonymous to accept anonymous callers",
        }
    }
}

impl TlsSettings {
    fn validate(&self, violations: &mut Violations) {
        violations.require(
            self.certificate_path.is_some() == self.key_path.is_some(),
            "tls.key_path",
            "must be set together with tls.certificate_path",
        );
        violations.require(
            self.client_ca_path.is_none() || self.certificate_path.is_some(),
            "tls.client_ca_path",
            "requires tls.certificate_path",
        );
    }
}

impl HttpSettings {
    fn validate(&self, violations: &mut Violations) {
        require_positive(violations, self.reload_interval, "http.reload_interval");
        require_positive(violations, self.max_connections, "http.max_connections");
        require_positive(violations, self.header_timeout, "http.header_timeout");
        require_positive(violations, self.body_timeout, "http.body_timeout");
        require_positive(violations, self.write_timeout, "http.write_timeout");
        require_positive(violations, self.max_connection_age, "http.max_connection_age");
    }
}

impl LimitSettings {
    fn validate(&self, violations: &mut Violations) {
        require_positive(violations, self.max_record, "limits.max_record");
        require_positive(violations, self.max_records, "limits.max_records");
        violations.require(
            self.max_record <= self.max_body,
            "limits.max_record",
            "must not be above limits.max_body",
        );
        let records = self.max_records.saturating_mul(RECORD_COST) as u64;
        violations.require(
            self.max_body.as_u64().saturating_add(records) <= self.max_in_flight_bytes.as_u64(),
            "limits.max_in_flight_bytes",
            "must be at least limits.max_body plus 700 bytes for each of limits.max_records, or the largest request \
             would never fit",
        );
        violations.require(
            self.max_records <= self.max_in_flight_records,
            "limits.max_in_flight_records",
            "must not be below limits.max_records, or the largest request would never fit",
        );
    }
}

fn require_positive<T: Default + PartialEq>(violations: &mut Violations, value: T, key: &str) {
    violations.require(value != T::default(), key, "must be above zero");
}

#[cfg(test)]
mod tests;
