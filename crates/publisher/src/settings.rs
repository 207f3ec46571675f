//! What an operator may set, the defaults, and which values make no sense. Reads no file and no environment.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Settings};
use service::{List, ProcessSettings, Secret};

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
    pub budget: BudgetSettings,
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
    /// How long a whole request may take. Longer than body and message timeout together, because an answer is
    /// given only once the producer has given up.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub request_deadline: Duration,
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

/// Who may write. Everybody, without a token file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthSettings {
    /// A file with a name and the SHA-256 of a bearer token, in hex, on each line. Several may have one name.
    pub tokens_path: Option<PathBuf>,
}

/// What each caller, known by the name of its token, may do. Zero is no limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetSettings {
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
    /// The bodies of all requests that are not answered yet; what does not fit is refused with 503.
    pub in_flight_bytes: ByteSize,
    /// The records of all requests that Kafka has not acknowledged yet; what does not fit is refused with 503.
    pub in_flight_records: usize,
}

/// Where records go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaSettings {
    /// Some brokers of the cluster, each `host:port`.
    pub brokers: List,
    /// The topic, created if absent. One that exists is left as it is.
    pub topic: String,
    /// Partitions of a topic that is created.
    pub partitions: i32,
    /// Replicas of a topic that is created.
    pub replication: i32,
    /// How many replicas must have a record before it counts as written, in a topic that is created.
    pub min_insync_replicas: i32,
    /// How long a topic that is created keeps its records.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub retention: Duration,
    /// How long the producer tries to write a record before it gives up and the caller hears 504.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub message_timeout: Duration,
    /// How long a record waits for others to share its way to the broker.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub linger: Duration,
    /// How often Kafka is asked whether it is there.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub probe_interval: Duration,
    /// How long it may take to say so.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub probe_timeout: Duration,
    /// How often the producer's own statistics are read; zero is never.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub statistics_interval: Duration,
    /// Further properties of librdkafka, such as `security.protocol`; in the environment `_` stands for `.`.
    /// They may be secrets and are shown nowhere.
    pub properties: BTreeMap<String, Secret>,
}

impl Default for PublisherSettings {
    fn default() -> Self {
        Self {
            process: ProcessSettings::on_port(9082),
            http: HttpSettings::default(),
            tls: TlsSettings::default(),
            auth: AuthSettings::default(),
            budget: BudgetSettings::default(),
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
            request_deadline: Duration::from_secs(30),
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
            in_flight_bytes: ByteSize::mib(32),
            in_flight_records: 50_000,
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

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: List::of(["127.0.0.1:9092"]),
            topic: "users_created".to_owned(),
            partitions: 6,
            replication: 1,
            min_insync_replicas: 1,
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            message_timeout: Duration::from_secs(12),
            linger: Duration::from_millis(5),
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(2),
            statistics_interval: Duration::from_secs(5),
            properties: BTreeMap::new(),
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
            self.http.request_deadline < self.http.body_timeout + self.kafka.message_timeout + GIVING_UP,
            "http.request_deadline",
            "must be at least 2s above http.body_timeout and kafka.message_timeout together",
        )
    }
}

impl PublisherSettings {
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
        let known_callers = self.auth.tokens_path.is_some() || self.tls.client_ca_path.is_some();
        refuse_if(
            !self.http.listen.ip().is_loopback() && !known_callers && !self.http.allow_anonymous,
            "http.listen",
            "can be reached by others, and nothing says who may write: set auth.tokens_path or tls.client_ca_path, \
             or http.allow_anonymous to let everybody",
        )
    }
}

impl HttpSettings {
    fn validate(&self) -> Result<(), ConfigError> {
        refuse_if(self.reload_interval.is_zero(), "http.reload_interval", "is zero")?;
        refuse_if(self.max_connections == 0, "http.max_connections", "is zero")?;
        refuse_if(self.header_timeout.is_zero(), "http.header_timeout", "is zero")?;
        refuse_if(self.body_timeout.is_zero(), "http.body_timeout", "is zero")
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
        refuse_if(
            self.max_body > self.in_flight_bytes,
            "limits.in_flight_bytes",
            "is below limits.max_body, so that the largest body would never fit",
        )?;
        refuse_if(
            self.max_records > self.in_flight_records,
            "limits.in_flight_records",
            "is below limits.max_records, so that the largest request would never fit",
        )?;
        refuse_if(
            self.in_flight_records > 10_000_000,
            "limits.in_flight_records",
            "is above 10000000, the most that librdkafka holds",
        )
    }
}

impl KafkaSettings {
    fn validate(&self) -> Result<(), ConfigError> {
        refuse_if(self.brokers.is_empty(), "kafka.brokers", "is empty")?;
        refuse_if(
            !is_topic_name(&self.topic),
            "kafka.topic",
            "is not the name of a topic",
        )?;
        refuse_if(self.partitions < 1, "kafka.partitions", "is below 1")?;
        refuse_if(
            !(1..=i32::from(i16::MAX)).contains(&self.replication),
            "kafka.replication",
            "is not from 1 to 32767",
        )?;
        refuse_if(
            !(1..=self.replication).contains(&self.min_insync_replicas),
            "kafka.min_insync_replicas",
            "is not from 1 to kafka.replication",
        )?;
        refuse_if(self.retention.is_zero(), "kafka.retention", "is zero")?;
        refuse_if(
            self.message_timeout < Duration::from_secs(1),
            "kafka.message_timeout",
            "is below 1s, the producer's own clock tick",
        )?;
        refuse_if(
            self.linger >= self.message_timeout,
            "kafka.linger",
            "is not below kafka.message_timeout",
        )?;
        refuse_if(self.probe_interval.is_zero(), "kafka.probe_interval", "is zero")?;
        refuse_if(self.probe_timeout.is_zero(), "kafka.probe_timeout", "is zero")?;
        self.refuse_reserved_properties()
    }

    fn refuse_reserved_properties(&self) -> Result<(), ConfigError> {
        let reserved = self.librdkafka_properties().map(|(name, _)| name);
        match reserved
            .into_iter()
            .find(|name| RESERVED.contains(&name.as_str()))
        {
            None => Ok(()),
            Some(name) => Err(ConfigError::Invalid {
                key: "kafka.properties",
                reason: format!("sets `{name}`, on which the publisher's promises rest"),
            }),
        }
    }

    /// The properties with the names that librdkafka knows, none of which has an underscore.
    pub(crate) fn librdkafka_properties(&self) -> impl Iterator<Item = (String, &Secret)> {
        self.properties
            .iter()
            .map(|(name, value)| (name.replace('_', "."), value))
    }
}

/// What the publisher sets itself, with the aliases that librdkafka knows for it.
const RESERVED: [&str; 19] = [
    "acks",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "linger.ms",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partitioner",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "request.required.acks",
    "retries",
    "statistics.interval.ms",
    "transactional.id",
];

/// Kafka's own rule.
fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && !matches!(name, "." | "..")
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
mod tests {
    use service::config::load;

    use super::*;

    fn loaded(variables: &[(&str, &str)]) -> Result<PublisherSettings, String> {
        let owned = variables.iter().map(|(name, value)| {
            let name = format!("PUBLISHER__{name}");
            (name, (*value).to_owned())
        });
        load(None, owned).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_valid_and_stay_on_this_machine() {
        let settings = loaded(&[]).unwrap();
        assert!(settings.http.listen.ip().is_loopback());
        assert_eq!(settings.kafka.topic, "users_created");
        assert_eq!(settings.kafka.retention, Duration::from_secs(604_800));
    }

    #[test]
    fn sizes_and_durations_are_read_with_their_units() {
        let settings = loaded(&[
            ("LIMITS__MAX_BODY", "1 MiB"),
            ("KAFKA__RETENTION", "24h"),
            ("KAFKA__BROKERS", "a:1, b:2"),
        ])
        .unwrap();
        assert_eq!(settings.limits.max_body, ByteSize::mib(1));
        assert_eq!(settings.kafka.retention, Duration::from_secs(86_400));
        assert_eq!(settings.kafka.brokers.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        for (name, value, key) in [
            ("HTTP__LISTEN", "0.0.0.0:8080", "`http.listen`"),
            ("HTTP__MAX_CONNECTIONS", "0", "`http.max_connections`"),
            ("HTTP__HEADER_TIMEOUT", "0s", "`http.header_timeout`"),
            ("HTTP__BODY_TIMEOUT", "0s", "`http.body_timeout`"),
            ("HTTP__REQUEST_DEADLINE", "23s", "`http.request_deadline`"),
            ("HTTP__RELOAD_INTERVAL", "0s", "`http.reload_interval`"),
            ("TLS__CERTIFICATE_PATH", "/x", "`tls.key_path`"),
            ("TLS__CLIENT_CA_PATH", "/x", "`tls.client_ca_path`"),
            ("IDEMPOTENCY__ENTRIES", "0", "`idempotency.entries`"),
            ("LIMITS__MAX_RECORD", "0", "`limits.max_record`"),
            ("LIMITS__MAX_RECORD", "17 MiB", "`limits.max_record`"),
            ("LIMITS__MAX_RECORDS", "0", "`limits.max_records`"),
            ("LIMITS__MAX_BODY", "33 MiB", "`limits.in_flight_bytes`"),
            ("LIMITS__IN_FLIGHT_RECORDS", "19999", "`limits.in_flight_records`"),
            (
                "LIMITS__IN_FLIGHT_RECORDS",
                "10000001",
                "`limits.in_flight_records`",
            ),
            ("KAFKA__BROKERS", "", "`kafka.brokers`"),
            ("KAFKA__TOPIC", "a b", "`kafka.topic`"),
            ("KAFKA__PARTITIONS", "0", "`kafka.partitions`"),
            ("KAFKA__REPLICATION", "0", "`kafka.replication`"),
            ("KAFKA__MIN_INSYNC_REPLICAS", "2", "`kafka.min_insync_replicas`"),
            ("KAFKA__RETENTION", "0s", "`kafka.retention`"),
            ("KAFKA__MESSAGE_TIMEOUT", "999ms", "`kafka.message_timeout`"),
            ("KAFKA__LINGER", "12s", "`kafka.linger`"),
            ("KAFKA__PROBE_INTERVAL", "0s", "`kafka.probe_interval`"),
            ("KAFKA__PROBE_TIMEOUT", "0s", "`kafka.probe_timeout`"),
            ("KAFKA__PROPERTIES__ACKS", "1", "`kafka.properties` sets `acks`"),
            (
                "KAFKA__PROPERTIES__MESSAGE_TIMEOUT_MS",
                "1",
                "sets `message.timeout.ms`",
            ),
        ] {
            let error = loaded(&[(name, value)]).unwrap_err();
            assert!(error.contains(key), "{name}={value}: {error}");
        }
    }

    #[test]
    fn another_address_is_served_only_when_told_so() {
        let told = [
            ("HTTP__LISTEN", "0.0.0.0:8080"),
            ("HTTP__ALLOW_ANONYMOUS", "true"),
        ];
        assert!(loaded(&told).is_ok());
        let known = [("HTTP__LISTEN", "0.0.0.0:8080"), ("AUTH__TOKENS_PATH", "/x")];
        assert!(loaded(&known).is_ok());
        assert!(loaded(&[("HTTP__LISTEN", "[::1]:8080")]).is_ok());
    }

    #[test]
    fn a_property_keeps_its_value_to_itself() {
        let settings = loaded(&[("KAFKA__PROPERTIES__SASL_PASSWORD", "00hunter2")]).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        let (name, value) = settings.kafka.librdkafka_properties().next().unwrap();
        assert_eq!((name.as_str(), value.expose()), ("sasl.password", "00hunter2"));
    }
}
