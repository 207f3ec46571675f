//! What the operator can set, with the defaults and why they are what they are.

mod cassandra;
mod kafka;
mod work;

use serde::{Deserialize, Serialize};
use service::ProcessSettings;
use service::config::{ConfigError, Settings as _};

pub use self::cassandra::{CassandraSettings, ConsistencyLevel, TlsSettings};
pub use self::kafka::KafkaSettings;
pub use self::work::{
    BatchSettings, CheckpointSettings, DeadLetterSettings, OnMissing, OnOutOfRange, Tombstones,
};

/// Everything under the streamer's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Admin port, logs, shutdown.
    pub process: ProcessSettings,
    /// Where the records come from.
    pub kafka: KafkaSettings,
    /// Where they go.
    pub cassandra: CassandraSettings,
    /// When a micro-batch is flushed.
    pub batch: BatchSettings,
    /// Where reading starts, and how often progress is kept.
    pub checkpoint: CheckpointSettings,
    /// When a partition has so many dead letters that something else is wrong.
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
    /// When a micro-batch is flushed: with no more rows than may be written in a second, or a stop and a revocation
    /// would wait for it too long.
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

    fn validate(&self) -> Result<(), ConfigError> {
        refuse_if(self.kafka.brokers.is_empty(), "kafka.brokers", "is empty")?;
        refuse_if(self.kafka.topic.is_empty(), "kafka.topic", "is empty")?;
        refuse_if(self.kafka.group.is_empty(), "kafka.group", "is empty")?;
        let same = self.kafka.topic == self.kafka.dead_letter_topic;
        refuse_if(
            same,
            "kafka.dead_letter_topic",
            "is the topic that is read: dead letters would be read again",
        )?;
        refuse_if(self.kafka.partitions < 1, "kafka.partitions", "is below 1")?;
        refuse_if(self.kafka.replication < 1, "kafka.replication", "is below 1")?;
        self.cassandra.validate()?;
        refuse_if(
            self.checkpoint.stall_timeout.is_zero(),
            "checkpoint.stall_timeout",
            "is 0",
        )?;
        let share = 0.0..=1.0;
        refuse_if(
            !share.contains(&self.dead_letters.max_ratio),
            "dead_letters.max_ratio",
            "is not between 0 and 1",
        )?;
        let window = 1..=100_000;
        refuse_if(
            !window.contains(&self.dead_letters.window),
            "dead_letters.window",
            "is not between 1 and 100000",
        )?;
        refuse_if(self.batch.max_rows == 0, "batch.max_rows", "is 0")?;
        let countable = usize::from(u16::MAX);
        refuse_if(
            self.batch.max_rows > countable,
            "batch.max_rows",
            "is more than 65535",
        )?;
        refuse_if(self.batch.max_in_flight == 0, "batch.max_in_flight", "is 0")?;
        refuse_if(self.checkpoint.interval.is_zero(), "checkpoint.interval", "is 0")
    }
}

fn refuse_if(wrong: bool, key: &'static str, reason: &str) -> Result<(), ConfigError> {
    if wrong {
        Err(ConfigError::Invalid {
            key,
            reason: reason.to_owned(),
        })
    } else {
        Ok(())
    }
}

/// The name of the service, as in its variables and metrics.
pub const NAME: &str = Settings::SERVICE;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytesize::ByteSize;

    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let variables = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        service::config::load(None, variables)
    }

    #[test]
    fn the_defaults_are_valid() {
        load(&[]).unwrap();
    }

    #[test]
    fn values_are_read_from_the_environment() {
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
    fn a_micro_batch_holds_no_more_than_a_seconds_rows() {
        assert_eq!(
            Settings::default().batch().max_rows,
            BatchSettings::default().max_rows
        );
        let settings = load(&[("STREAMER__CASSANDRA__MAX_ROWS_PER_SECOND", "7")]).unwrap();
        assert_eq!(settings.batch().max_rows, 7);
        assert!(load(&[("STREAMER__CASSANDRA__MAX_ROWS_PER_SECOND", "0")]).is_err());
    }

    #[test]
    fn a_name_that_could_smuggle_cql_is_refused() {
        let error = load(&[("STREAMER__CASSANDRA__TABLE", "users; drop table x")]).unwrap_err();
        assert!(
            error.to_string().starts_with("`cassandra.table` is not a name"),
            "{error}"
        );
    }

    #[test]
    fn half_of_a_tls_configuration_is_refused() {
        for half in [
            ("STREAMER__CASSANDRA__TLS__KEY_PATH", "key.pem"),
            ("STREAMER__CASSANDRA__TLS__SERVER_NAME", "cassandra"),
        ] {
            let error = load(&[half]).unwrap_err().to_string();
            assert!(error.starts_with("`cassandra.tls."), "{error}");
        }
        let name = ("STREAMER__CASSANDRA__TLS__SERVER_NAME", "not a name");
        let error = load(&[("STREAMER__CASSANDRA__TLS__CA_PATH", "ca.pem"), name]).unwrap_err();
        assert!(error.to_string().contains("neither a DNS name"), "{error}");
    }
}
