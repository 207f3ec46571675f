//! Settings of micro-batches, checkpoints, the run ledger, dead letters and tombstones.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::config::Violations;

use crate::pipeline::remaining_ttl::MAX_TTL;

/// When a micro-batch is flushed: when it reaches a limit, or earlier while at most one other is being written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchSettings {
    /// The maximum number of records.
    pub max_rows: usize,
    /// The maximum size of keys, values and headers.
    pub max_bytes: ByteSize,
    /// The maximum age of the oldest record.
    #[serde(with = "service::duration")]
    pub max_age: Duration,
    /// The maximum number of micro-batches being written, so that statements stay in flight while one completes.
    pub max_in_flight: usize,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            max_rows: 500,
            max_bytes: ByteSize::mib(1),
            max_age: Duration::from_millis(50),
            max_in_flight: 4,
        }
    }
}

/// Checkpoints, and where to start without one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointSettings {
    /// How often checkpoints are written. Records after the last one are written again after a crash.
    #[serde(with = "service::duration")]
    pub interval: Duration,
    /// How often a stored checkpoint is read back, besides the first one of an assignment: a deletion by hand hides those
    /// that are stored after it.
    #[serde(with = "service::duration")]
    pub read_back_interval: Duration,
    /// `/healthz` fails after this time without a checkpoint, while records wait and all dependencies are available.
    #[serde(with = "service::duration")]
    pub stall_timeout: Duration,
    /// Where a partition without a checkpoint starts.
    pub on_missing: OnMissing,
    /// What happens when the checkpoint is outside the topic's offsets: records are lost.
    pub on_out_of_range: OnOutOfRange,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(200),
            read_back_interval: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            on_missing: OnMissing::Earliest,
            on_out_of_range: OnOutOfRange::Fail,
        }
    }
}

/// Where a partition without a checkpoint starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// At the partition's beginning.
    Earliest,
    /// At its end; only while the group has no checkpoint for any partition of the topic.
    Latest,
    /// At the consumer group's committed offset: to take over from another consumer.
    Group,
    /// Nowhere: the process stops.
    Fail,
}

/// What happens when records between the checkpoint and the partition's beginning, or its end, are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOutOfRange {
    /// The process stops and reports how many records are lost.
    Fail,
    /// Continue at the partition's beginning, with a warning.
    Earliest,
    /// Continue at the partition's end, with a warning.
    Latest,
}

/// The run ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerSettings {
    /// How long the ledger knows what became of a run's records, at least 1 second and at most 20 years. Whole seconds.
    #[serde(with = "service::duration")]
    pub ttl: Duration,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30 * 24 * 3_600),
        }
    }
}

impl LedgerSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require(
            (Duration::from_secs(1)..=MAX_TTL).contains(&self.ttl),
            "ledger.ttl",
            "must be between 1 second and 20 years",
        );
    }
}

/// How long dead letters are kept, and when a partition halts because too many of its records become dead letters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DeadLetterSettings {
    /// The number of consecutive dead letters that halts a partition; 0 disables the limit.
    pub max_consecutive: u32,
    /// The ratio of dead letters among a partition's latest records above which it halts; 1 disables the limit.
    pub max_ratio: f64,
    /// The approximate number of latest records for the ratio. Older records decay exponentially.
    pub window: u32,
    /// The retention of a created dead-letter topic, at least that of the records.
    #[serde(with = "service::duration")]
    pub retention: Duration,
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self {
            max_consecutive: 100,
            max_ratio: 0.5,
            window: 1_000,
            retention: Duration::from_secs(30 * 24 * 3_600),
        }
    }
}

/// What a record with a null value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tombstones {
    /// The row is deleted.
    Delete,
    /// The record becomes a dead letter.
    DeadLetter,
}

impl BatchSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require(
            (1..=usize::from(u16::MAX)).contains(&self.max_rows),
            "batch.max_rows",
            "must be between 1 and 65535",
        );
        violations.require(
            self.max_in_flight > 0,
            "batch.max_in_flight",
            "must be at least 1",
        );
    }
}

impl DeadLetterSettings {
    /// `records`: the retention of a created topic of records.
    pub(super) fn validate(&self, records: Duration, violations: &mut Violations) {
        violations.require(
            self.retention >= records,
            "dead_letters.retention",
            "must be at least kafka.retention: `verify` needs the dead letters of the records that it reads",
        );
        violations.require(
            (0.0..=1.0).contains(&self.max_ratio),
            "dead_letters.max_ratio",
            "must be between 0 and 1",
        );
        violations.require(
            (1..=100_000).contains(&self.window),
            "dead_letters.window",
            "must be between 1 and 100000",
        );
    }
}
