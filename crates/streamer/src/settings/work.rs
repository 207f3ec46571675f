//! How records are gathered, where reading starts, and when it stops.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// A micro-batch is flushed while at most one other is being written, or when the first of these is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchSettings {
    /// Records.
    pub max_rows: usize,
    /// Bytes of keys, values and headers.
    pub max_bytes: ByteSize,
    /// Age of the oldest record.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_age: Duration,
    /// Micro-batches being written at once, so that the window stays full while one ends.
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

/// Progress, and where to start without it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointSettings {
    /// How often progress is written down; what came after it is written again after a kill.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub interval: Duration,
    /// After so long without a checkpoint, while records wait and nothing is in the way, `/healthz` asks for a restart.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub stall_timeout: Duration,
    /// Where a partition without a checkpoint starts.
    pub on_missing: OnMissing,
    /// What happens when the checkpoint lies outside what the topic holds: records are gone.
    pub on_out_of_range: OnOutOfRange,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(200),
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
    /// At the topic's beginning.
    Earliest,
    /// At its end; only while the group has no checkpoint for any partition of the topic.
    Latest,
    /// Where the consumer group's own committed offset says: taking over from another consumer.
    Group,
    /// Nowhere: the process stops.
    Fail,
}

/// What happens when records between the checkpoint and the topic's beginning, or its end, are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOutOfRange {
    /// The process stops and says how much is gone.
    Fail,
    /// Go on at the topic's beginning, with a warning.
    Earliest,
    /// Go on at the topic's end, with a warning.
    Latest,
}

/// When a partition stops because too many of its records become dead letters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DeadLetterSettings {
    /// Dead letters in a row on one partition that stop it; 0: any number is taken.
    pub max_consecutive: u32,
    /// Their share of the latest records of a partition above which it stops; 1: any share is taken.
    pub max_ratio: f64,
    /// How many records "the latest" are, about: older ones count less and less.
    pub window: u32,
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self {
            max_consecutive: 100,
            max_ratio: 0.5,
            window: 1_000,
        }
    }
}

/// What a record with a null value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tombstones {
    /// The row is deleted.
    Delete,
    /// It is refused.
    DeadLetter,
}
