//! What an operator may set, the defaults, and which values make no sense. Reads no file and no environment.

mod kafka;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::access::ListenPolicy;
use service::config::{ConfigError, Settings};
use service::{AuthSettings, ProcessSettings};

pub use kafka::KafkaSettings;

use crate::admission::RECORD_COST;

/// The producer looks for messages that are too old once a second, so it gives up a little later than told.
pub(crate) const GIVING_UP: Duration = Duration::from_secs(2);

/// The settings of the publisher; its environment variables begin with `PUBLISHER__`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PublisherSettings {
    /// Admin port, shutdown, logs.
    pub process: ProcessSettings,
    /// The door for the callers.
    pub http: HttpSettings,
    /// Encryption of what goes through it.
    pub tls: TlsSettings,
    /// Who may write.
    pub auth: AuthSettings,
    /// What each of them may do.
    pub rate_limit: RateLimitSettings,
    /// How much is taken at once.
    pub limits: LimitSettings,
    /// Which answers are remembered.
    pub idempotency: IdempotencySettings,
    /// Where records go.
    pub kafka: KafkaSettings,
}

/// The door for the callers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpSettings {
    /// Where the API listens; port 0 takes a free one, which the log names.
    pub listen: SocketAddr,
    /// Whether an address that others can reach may be served without knowing who calls.
    pub allow_anonymous: bool,
    /// How many connections are held; the next ones wait in the operating system's queue.
    pub max_connections: usize,
    /// How long a request's head may take, and how long a connection may wait for its next request.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub header_timeout: Duration,
    /// How long a request's body may take.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub body_timeout: Duration,
    /// How many bytes of a body must come each second, once it has had two seconds to get under way; zero is no demand.
    pub min_body_rate: ByteSize,
    /// How long a caller may leave an answer unread.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub write_timeout: Duration,
    /// How old a connection may become. Then it takes no more requests and its caller opens a new one, so that
    /// callers spread over the replicas that there are.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_connection_age: Duration,
    /// How long a whole request may take. Longer than body and message timeout together, because an answer is
    /// given only once the producer has given up.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub request_timeout: Duration,
    /// How often the files of `tls` and `auth` are looked at for changes.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub reload_interval: Duration,
}

/// Encryption of what goes through the door. Off without a certificate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSettings {
    /// The certificate and its chain, PEM.
    pub certificate_path: Option<PathBuf>,
    /// Its private key, PEM.
    pub key_path: Option<PathBuf>,
    /// The authorities whose certificates a caller must show, PEM; none are asked for without it.
    pub client_ca_path: Option<PathBuf>,
}

/// What each caller, known by the name of its token, may do. Zero is no limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimitSettings {
    /// Requests.
    pub requests_per_second: u32,
    /// Bytes of bodies, as sent.
    pub bytes_per_second: ByteSize,
}

/// Which answers are remembered for a repeat under the same key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct IdempotencySettings {
    /// How many.
    pub entries: usize,
    /// How many bytes of them.
    pub bytes: ByteSize,
    /// For how long.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub age: Duration,
}

/// How much is taken at once, in one request and in all.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitSettings {
    /// The largest decoded body.
    pub max_body: ByteSize,
    /// The largest record, as sent.
    pub max_record: ByteSize,
    /// The most records in one request.
    pub max_records: usize,
    /// The bodies of all requests that are not answered yet, 700 bytes for each of their records, and the answers that
    /// are not read yet; what does not fit is refused with 503.
    pub max_in_flight_bytes: ByteSize,
    /// The records of all requests that Kafka has not acknowledged yet; what does not fit is refused with 503.
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

    fn validate(&self) -> Result<(), ConfigError> {
        self.http.validate()?;
        self.validate_access()?;
        self.limits.validate()?;
        refuse_if(self.idempotency.entries == 0, "idempotency.entries", "is zero")?;
        self.kafka.validate()?;
        refuse_if(
            self.http.request_timeout < self.http.body_timeout + self.kafka.message_timeout + GIVING_UP,
            "http.request_timeout",
            "must be at least 2s above http.body_timeout and kafka.message_timeout together",
        )?;
        refuse_if(
            self.process.shutdown_grace < self.longest_stop(),
            "process.shutdown_grace",
            "must be at least 2s above kafka.message_timeout and the longest of http.header_timeout, \
             http.body_timeout and http.write_timeout together, or a stop could not finish what it has taken",
        )
    }
}

impl PublisherSettings {
    /// How long a stop takes at most. What is queued is settled within `message_timeout`, and its answer read within
    /// `write_timeout`; a head or a body on its way is there, or given up, before it hears that it comes too late.
    fn longest_stop(&self) -> Duration {
        let http = &self.http;
        let slowest = http.header_timeout.max(http.body_timeout).max(http.write_timeout);
        slowest + self.kafka.message_timeout + GIVING_UP
    }

    /// The largest body, in bytes.
    pub(crate) fn largest_body(&self) -> usize {
        usize::try_from(self.limits.max_body.as_u64()).unwrap_or(usize::MAX)
    }

    fn validate_access(&self) -> Result<(), ConfigError> {
        refuse_if(
            self.tls.certificate_path.is_some() != self.tls.key_path.is_some(),
            "tls.key_path",
            "and tls.certificate_path go together",
        )?;
        refuse_if(
            self.tls.client_ca_path.is_some() && self.tls.certificate_path.is_none(),
            "tls.client_ca_path",
            "needs tls.certificate_path",
        )?;
        let door = ListenPolicy {
            key: "http.listen",
            listen: self.http.listen,
            callers_known: self.auth.tokens_path.is_some() || self.tls.client_ca_path.is_some(),
            allow_anonymous: self.http.allow_anonymous,
            remedy: "auth.tokens_path or tls.client_ca_path, or http.allow_anonymous to let everybody",
        };
        door.validate()
    }
}

impl HttpSettings {
    fn validate(&self) -> Result<(), ConfigError> {
        refuse_if(self.reload_interval.is_zero(), "http.reload_interval", "is zero")?;
        refuse_if(self.max_connections == 0, "http.max_connections", "is zero")?;
        refuse_if(self.header_timeout.is_zero(), "http.header_timeout", "is zero")?;
        refuse_if(self.body_timeout.is_zero(), "http.body_timeout", "is zero")?;
        refuse_if(self.write_timeout.is_zero(), "http.write_timeout", "is zero")?;
        refuse_if(
            self.max_connection_age.is_zero(),
            "http.max_connection_age",
            "is zero",
        )
    }
}

impl LimitSettings {
    fn validate(&self) -> Result<(), ConfigError> {
        refuse_if(self.max_record.0 == 0, "limits.max_record", "is zero")?;
        refuse_if(self.max_records == 0, "limits.max_records", "is zero")?;
        refuse_if(
            self.max_record > self.max_body,
            "limits.max_record",
            "is above limits.max_body",
        )?;
        let records = self.max_records.saturating_mul(RECORD_COST) as u64;
        refuse_if(
            self.max_body.as_u64().saturating_add(records) > self.max_in_flight_bytes.as_u64(),
            "limits.max_in_flight_bytes",
            "is below limits.max_body and 700 bytes for each of limits.max_records, so that the largest request \
             would never fit",
        )?;
        refuse_if(
            self.max_records > self.max_in_flight_records,
            "limits.max_in_flight_records",
            "is below limits.max_records, so that the largest request would never fit",
        )
    }
}

fn refuse_if(wrong: bool, key: &'static str, reason: &str) -> Result<(), ConfigError> {
    if wrong {
        let reason = reason.to_owned();
        Err(ConfigError::Invalid { key, reason })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
