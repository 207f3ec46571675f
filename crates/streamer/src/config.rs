//! The settings: their defaults and the rules between them. The README lists the keys.
//!
//! `service::config` reads the file and the environment.

mod cassandra;
mod kafka;
mod work;

use serde::{Deserialize, Serialize};
use service::ProcessSettings;
use service::config::{Settings as _, Violations};

pub use self::cassandra::{CassandraSettings, ConsistencyLevel, TlsSettings};
pub use self::kafka::KafkaSettings;
pub use self::work::{
    BatchSettings, CheckpointSettings, DeadLetterSettings, OnMissing, OnOutOfRange, Tombstones,
};

/// The settings of the streamer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Admin port, logs, shutdown.
    pub process: ProcessSettings,
    /// The topic and the consumer group.
    pub kafka: KafkaSettings,
    /// The cluster and the tables.
    pub cassandra: CassandraSettings,
    /// When a micro-batch is flushed.
    pub batch: BatchSettings,
    /// Where reading starts, and how often checkpoints are written.
    pub checkpoint: CheckpointSettings,
    /// When a partition halts because of too many dead letters.
    pub dead_letters: DeadLetterSettings,
    /// What a record with a null value means.
    pub tombstones: Tombstones,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            process: ProcessSettings::on_port(9083),
            kafka: KafkaSettings::default(),
            cassandra: CassandraSettings::default(),
            batch: BatchSettings::default(),
            checkpoint: CheckpointSettings::default(),
            dead_letters: DeadLetterSettings::default(),
            tombstones: Tombstones::Delete,
        }
    }
}

impl Settings {
    /// When a micro-batch is flushed. It has at most as many rows as may be written in a second, so that a shutdown or a
    /// revocation does not wait too long for it.
    pub fn batch(&self) -> BatchSettings {
        let most = self.cassandra.max_rows_per_second;
        let most = most.and_then(|most| usize::try_from(most.get()).ok());
        BatchSettings {
            max_rows: most.map_or(self.batch.max_rows, |most| most.min(self.batch.max_rows)),
            ..self.batch.clone()
        }
    }
}

impl service::config::Settings for Settings {
    const SERVICE: &'static str = "streamer";

    fn validate(&self) -> Violations {
        let mut violations = Violations::default();
        self.process.validate(&mut violations);
        self.kafka.validate(&mut violations);
        self.cassandra.validate(&mut violations);
        self.batch.validate(&mut violations);
        self.checkpoint.validate(&mut violations);
        self.dead_letters.validate(&mut violations);
        violations
    }

    fn check_files(&self) -> Violations {
        let mut violations = Violations::default();
        self.cassandra.tls.check_files(&mut violations);
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
}
