//! Reports the halted partitions: once in the log, in `/readyz` and as a metric.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use service::Health;

use crate::dead_letters::limits::ReachedLimit;
use crate::health::lazy_dependency::LazyDependency;

/// Why a partition is halted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HaltReason {
    /// [`limits`](crate::dead_letters::limits) decides it.
    DeadLetters(ReachedLimit),
    /// Fetching its next records fails again and again.
    Unreadable {
        /// The offset of the next record.
        offset: i64,
        /// Kafka's error.
        error: String,
    },
    /// The dead-letter topic accepts no dead letter of a record.
    Refused {
        /// The offset of the record.
        offset: i64,
        /// The dead-letter topic.
        topic: String,
        /// Kafka's error.
        error: String,
    },
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeadLetters(limit) => {
                write!(
                    f,
                    "{limit}: fix the cause, then run `streamer dead-letters reset-limits`"
                )
            }
            Self::Unreadable { offset, error } => write!(
                f,
                "the records at offset {offset} can't be read: {error}. If it is a batch that is too large when unpacked, \
                 raise kafka.properties.receive_message_max_bytes and restart"
            ),
            Self::Refused { offset, topic, error } => write!(
                f,
                "kafka.dead_letter_topic {topic} does not accept the dead letter of offset {offset}: {error}. Change the \
                 topic's max.message.bytes or cleanup.policy, and restart"
            ),
        }
    }
}

/// The halted partitions of this member.
pub struct HaltedPartitions {
    partitions: Mutex<BTreeMap<i32, HaltReason>>,
    dependency: LazyDependency,
    gauge: IntGauge,
}

impl HaltedPartitions {
    /// Creates the report without halted partitions.
    pub fn new(health: Health, gauge: IntGauge) -> Self {
        Self {
            partitions: Mutex::default(),
            dependency: LazyDependency::new(health, "partitions"),
            gauge,
        }
    }

    /// Replaces the halted partitions. Returns the new ones.
    pub fn set(&self, halted: BTreeMap<i32, HaltReason>) -> Vec<i32> {
        let mut known = self.lock();
        if *known == halted {
            return Vec::new();
        }
        let new: Vec<_> = halted
            .keys()
            .filter(|partition| !known.contains_key(partition))
            .copied()
            .collect();
        for partition in &new {
            let reason = halted[partition].to_string();
            tracing::error!(partition, reason, "partition halted");
        }
        self.gauge.set(i64::try_from(halted.len()).unwrap_or(i64::MAX));
        if halted.is_empty() {
            self.dependency.ready();
        } else {
            self.dependency.unready(readiness_reason(&halted));
        }
        *known = halted;
        new
    }

    /// Whether `partition` is halted.
    pub fn contains(&self, partition: i32) -> bool {
        self.lock().contains_key(&partition)
    }

    /// Why `partition` is halted, if it is.
    pub fn reason(&self, partition: i32) -> Option<String> {
        self.lock().get(&partition).map(ToString::to_string)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, HaltReason>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn readiness_reason(halted: &BTreeMap<i32, HaltReason>) -> String {
    let reasons: Vec<_> = halted
        .iter()
        .map(|(partition, reason)| format!("partition {partition} is halted: {reason}"))
        .collect();
    reasons.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_reports_a_halted_partition_with_the_remedy() {
        let health = Health::default();
        let gauge = IntGauge::new("stopped", "stopped").unwrap();
        let halted = HaltedPartitions::new(health.clone(), gauge.clone());
        let three = BTreeMap::from([(3, HaltReason::DeadLetters(ReachedLimit::Consecutive(9)))]);
        assert_eq!(halted.set(three.clone()), [3]);
        assert!(halted.set(three).is_empty() && halted.contains(3) && !halted.contains(0));
        let reason = health.readiness().dependencies[0].reason.clone().unwrap();
        assert!(
            reason.contains("partition 3") && reason.contains("9 consecutive dead letters"),
            "{reason}"
        );
        assert!(reason.contains("streamer dead-letters reset-limits"), "{reason}");
        assert_eq!(gauge.get(), 1);
        halted.set(BTreeMap::new());
        assert!(health.readiness().ready && gauge.get() == 0);
    }
}
