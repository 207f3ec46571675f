//! The settings: their defaults and the rules between them. The README lists the keys.
//!
//! `service::config` reads the file and the environment.

mod cassandra;
mod kafka;
mod work;

use ::kafka::client::check;
use model::Contract;
use serde::{Deserialize, Serialize};
use service::config::{Settings as _, TopicName, Violations, default_topic};
use service::{ProcessSettings, RecordSettings, TelemetrySettings};
use thiserror::Error;

pub use self::cassandra::{CassandraSettings, ConsistencyLevel, TlsSettings};
pub use self::kafka::KafkaSettings;
pub use self::work::{
    BatchSettings, CheckpointSettings, DeadLetterSettings, LedgerSettings, OnMissing, OnOutOfRange,
    Tombstones,
};

use crate::consumer::client;

/// The settings of the streamer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Admin port, logs, shutdown.
    pub process: ProcessSettings,
    /// Export of traces.
    pub telemetry: TelemetrySettings,
    /// The contract of the records.
    pub record: RecordSettings,
    /// The topic and the consumer group.
    pub kafka: KafkaSettings,
    /// The cluster and the tables.
    pub cassandra: CassandraSettings,
    /// When a micro-batch is flushed.
    pub batch: BatchSettings,
    /// Where reading starts, and how often checkpoints are written.
    pub checkpoint: CheckpointSettings,
    /// The run ledger.
    pub ledger: LedgerSettings,
    /// How long dead letters are kept, and when a partition halts because of too many.
    pub dead_letters: DeadLetterSettings,
    /// What a record with a null value means.
    pub tombstones: Tombstones,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            process: ProcessSettings {
                // The driver logs each attempt to connect. `/readyz` and our own log report an outage with its cause.
                log_filter: "info,cdrs_tokio=off".to_owned(),
                ..ProcessSettings::on_port(9083)
            },
            telemetry: TelemetrySettings::default(),
            record: RecordSettings::default(),
            kafka: KafkaSettings::default(),
            cassandra: CassandraSettings::default(),
            batch: BatchSettings::default(),
            checkpoint: CheckpointSettings::default(),
            ledger: LedgerSettings::default(),
            dead_letters: DeadLetterSettings::default(),
            tombstones: Tombstones::Delete,
        }
    }
}

impl Settings {
    /// Sets the names of topics and table that are not configured, by the contract's resource.
    ///
    /// # Errors
    /// When both topics are the same.
    pub fn resolve(mut self, contract: &Contract) -> Result<Self, SameTopic> {
        let (kafka, topic) = (&mut self.kafka, default_topic(contract));
        let dead_letter_topic = || {
            let name = format!("{topic}.dead_letter");
            TopicName::try_from(name).expect("a resource is shorter than a topic may be")
        };
        kafka.dead_letter_topic.get_or_insert_with(dead_letter_topic);
        kafka.topic.get_or_insert(topic);
        self.cassandra
            .table
            .get_or_insert_with(|| contract.default_table());
        if self.kafka.topic == self.kafka.dead_letter_topic {
            return Err(SameTopic);
        }
        Ok(self)
    }

    /// When a micro-batch is flushed: when it has as many rows as may be written in a second, so that a checkpoint, a shutdown
    /// or a revocation does not wait too long for it.
    pub fn batch(&self) -> BatchSettings {
        let most = self.cassandra.max_rows_per_second;
        let most = most.and_then(|most| usize::try_from(most.get()).ok());
        BatchSettings {
            max_rows: most.map_or(self.batch.max_rows, |most| most.min(self.batch.max_rows)),
            ..self.batch.clone()
        }
    }
}

/// `kafka.dead_letter_topic` is `kafka.topic`.
#[derive(Debug, Error)]
#[error("kafka.dead_letter_topic must differ from kafka.topic, or dead letters would be consumed again")]
pub struct SameTopic;

impl service::config::Settings for Settings {
    const SERVICE: &'static str = "streamer";
    const REFERENCE: &'static str = include_str!("../README.md");
    const MAY_BE_ZERO: &'static [&'static str] = &["batch.max_age"];

    fn validate(&self) -> Violations {
        let mut violations = Violations::default();
        self.process.validate(&mut violations);
        self.telemetry.validate(&mut violations);
        self.record.validate(&mut violations);
        self.kafka.validate(&mut violations);
        self.cassandra.validate(&mut violations);
        self.batch.validate(&mut violations);
        self.ledger.validate(&mut violations);
        self.dead_letters.validate(self.kafka.retention, &mut violations);
        violations
    }

    fn check_files(&self) -> Violations {
        let mut violations = Violations::default();
        self.record.check_files(&mut violations);
        self.kafka.check_files(&mut violations);
        self.cassandra.tls.check_files(&mut violations);
        // librdkafka would refuse the clients for the same.
        if !violations.any_in("kafka")
            && !self.validate().any_in("kafka")
            && let Some(words) = check::refusal(client::planned(&self.kafka))
        {
            violations.add("kafka.properties", format!("librdkafka refuses them: {words}"));
        }
        violations
    }
}

/// The name of the service, the prefix of its variables and metrics.
pub const NAME: &str = Settings::SERVICE;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytesize::ByteSize;
    use service::config::ConfigErrors;

    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Settings, ConfigErrors> {
        service::config::load(None, variables.iter().copied())
    }

    #[test]
    fn check_creates_consumer_and_producer_with_the_properties() {
        let check = |name: &str, value: &str| {
            let mut settings = Settings::default();
            settings.kafka.properties = [(name.to_owned(), value.to_owned())].into();
            let violations = settings.check_files();
            let texts = violations.iter().map(ToString::to_string);
            texts.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(check("max_poll_interval_ms", "20000"), "");
        for (name, value, part) in [
            ("max_poll_interval_ms", "5000", "`session.timeout.ms`"),
            ("receive_message_max_bytes", "1000", "`fetch.max.bytes`"),
            ("retries", "0", "`enable.idempotence`"),
        ] {
            let found = check(name, value);
            let start = "kafka.properties: librdkafka refuses them: ";
            assert!(found.starts_with(start) && found.contains(part), "{found}");
        }
        let unknown = check("no_such_key", "x");
        assert!(
            unknown.starts_with("kafka.properties.no_such_key: librdkafka has no such property"),
            "{unknown}"
        );
        // Other rules report it.
        assert_eq!(check("acks", "all"), "");
    }

    #[test]
    fn defaults_are_valid() {
        load(&[]).unwrap();
    }

    #[test]
    fn environment_sets_values() {
        let settings = load(&[
            ("STREAMER__CASSANDRA__CONTACT_POINTS", "a:1,b:2"),
            ("STREAMER__CASSANDRA__CONSISTENCY", "local_one"),
            ("STREAMER__CASSANDRA__BACKOFF__MAX", "3s"),
            ("STREAMER__CHECKPOINT__ON_MISSING", "group"),
            ("STREAMER__BATCH__MAX_BYTES", "64KiB"),
        ])
        .unwrap();
        assert_eq!(settings.cassandra.contact_points.len(), 2);
        assert_eq!(settings.cassandra.consistency, ConsistencyLevel::LocalOne);
        assert_eq!(settings.cassandra.backoff.max, Duration::from_secs(3));
        assert_eq!(settings.checkpoint.on_missing, OnMissing::Group);
        assert_eq!(settings.batch.max_bytes, ByteSize::kib(64));
    }

    #[test]
    fn names_follow_the_resource_unless_they_are_set() {
        let names = |settings: &Settings| {
            let kafka = &settings.kafka;
            [
                kafka.topic(),
                kafka.dead_letter_topic(),
                settings.cassandra.table(),
            ]
            .map(str::to_owned)
        };
        let users = Settings::default().resolve(&Contract::user()).unwrap();
        assert_eq!(
            names(&users),
            ["users_created", "users_created.dead_letter", "created_users"]
        );
        let proto = r#"syntax = "proto3"; import "affluent/options/v1/options.proto";
            message Item { option (affluent.options.v1.record) = { resource: "line-items" key: "id" }; string id = 1; }"#;
        let items = Contract::from_source(proto).unwrap();
        let settings = Settings::default().resolve(&items).unwrap();
        assert_eq!(
            names(&settings),
            [
                "line-items_created",
                "line-items_created.dead_letter",
                "created_line_items"
            ]
        );
        let set = [
            ("STREAMER__KAFKA__TOPIC", "a"),
            ("STREAMER__KAFKA__DEAD_LETTER_TOPIC", "b"),
            ("STREAMER__CASSANDRA__TABLE", "c"),
        ];
        let settings = load(&set).unwrap().resolve(&items).unwrap();
        assert_eq!(names(&settings), ["a", "b", "c"]);
        let same = load(&[("STREAMER__KAFKA__DEAD_LETTER_TOPIC", "users_created")]).unwrap();
        assert!(same.resolve(&Contract::user()).is_err());
    }

    #[test]
    fn micro_batch_has_at_most_one_second_of_rows() {
        assert_eq!(
            Settings::default().batch().max_rows,
            BatchSettings::default().max_rows
        );
        let settings = load(&[("STREAMER__CASSANDRA__MAX_ROWS_PER_SECOND", "7")]).unwrap();
        assert_eq!(settings.batch().max_rows, 7);
        assert!(load(&[("STREAMER__CASSANDRA__MAX_ROWS_PER_SECOND", "0")]).is_err());
    }

    #[test]
    fn value_that_can_never_work_is_refused_with_its_key() {
        for (name, value, key) in [
            (
                "CASSANDRA__CONTACT_POINTS",
                "127.0.0.1:99999",
                "cassandra.contact_points: ",
            ),
            ("CASSANDRA__CONTACT_POINTS", "::1", "cassandra.contact_points: "),
            ("CASSANDRA__CONTACT_POINTS", "", "cassandra.contact_points: "),
            ("CASSANDRA__CONNECT_TIMEOUT", "0s", "cassandra.connect_timeout: "),
            ("CASSANDRA__LOCAL_DATACENTER", "", "cassandra.local_datacenter: "),
            ("KAFKA__BROKERS", "127.0.0.1:99999", "kafka.brokers: "),
            ("KAFKA__BROKERS", "http://127.0.0.1:9092", "kafka.brokers: "),
            ("KAFKA__TOPIC", "users created", "kafka.topic: "),
            ("KAFKA__DEAD_LETTER_TOPIC", "", "kafka.dead_letter_topic: "),
            ("KAFKA__DEAD_LETTER_TOPIC", "..", "kafka.dead_letter_topic: "),
            ("KAFKA__GROUP", "", "kafka.group: "),
            ("KAFKA__PROBE_INTERVAL", "0s", "kafka.probe_interval: "),
            ("CHECKPOINT__INTERVAL", "0s", "checkpoint.interval: "),
            ("CHECKPOINT__STALL_TIMEOUT", "0s", "checkpoint.stall_timeout: "),
            ("LEDGER__TTL", "0s", "ledger.ttl: "),
            ("LEDGER__TTL", "21y", "ledger.ttl: "),
            ("DEAD_LETTERS__RETENTION", "167h", "dead_letters.retention: "),
            ("KAFKA__RETENTION", "721h", "dead_letters.retention: "),
        ] {
            let error = load(&[(&format!("STREAMER__{name}"), value)])
                .unwrap_err()
                .to_string();
            assert!(error.contains(key), "{name}={value}: {error}");
        }
        let settings = load(&[("STREAMER__CASSANDRA__CONTACT_POINTS", "localhost,[::1]")]).unwrap();
        assert_eq!(
            *settings.cassandra.contact_points,
            ["localhost:9042", "[::1]:9042"]
        );
        load(&[("STREAMER__BATCH__MAX_AGE", "0s")]).unwrap();
    }

    #[test]
    fn table_name_with_cql_is_refused() {
        let error = load(&[("STREAMER__CASSANDRA__TABLE", "users; drop table x")]).unwrap_err();
        assert!(
            error.to_string().contains(": cassandra.table: must be a name"),
            "{error}"
        );
    }

    #[test]
    fn incomplete_tls_settings_are_refused() {
        for half in [
            ("STREAMER__CASSANDRA__TLS__KEY_PATH", "key.pem"),
            ("STREAMER__CASSANDRA__TLS__SERVER_NAME", "cassandra"),
        ] {
            let error = load(&[half]).unwrap_err().to_string();
            assert!(error.contains(": cassandra.tls."), "{error}");
        }
        let name = ("STREAMER__CASSANDRA__TLS__SERVER_NAME", "not a name");
        let error = load(&[("STREAMER__CASSANDRA__TLS__CA_PATH", "ca.pem"), name]).unwrap_err();
        assert!(
            error.to_string().contains("must be a DNS name or an IP address"),
            "{error}"
        );
    }

    #[test]
    fn schema_accepts_a_configuration_and_rejects_a_misspelt_key() {
        let schema = jsonschema::validator_for(&service::config::schema::<Settings>()).unwrap();
        assert!(schema.is_valid(&serde_json::json!({
            "kafka": {"brokers": "kafka:9092", "session_timeout": "45s"},
            "cassandra": {"contact_points": ["cassandra:9042"], "password_file": "/run/password",
                "tls": {"ca_path": "/run/ca.pem"}}
        })));
        assert!(!schema.is_valid(&serde_json::json!({"cassandra": {"contact_point": "cassandra:9042"}})));
    }
}
