//! Reports the partitions that are halted because of their dead letters: once in the log, in `/readyz` and as a
//! metric.
//!
//! [`limits`](crate::dead_letters::limits) decides whether a partition is halted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use service::Health;

use crate::dead_letters::limits::ReachedLimit;
use crate::health::lazy_dependency::LazyDependency;

/// The halted partitions of this member.
pub struct HaltedPartitions {
    partitions: Mutex<BTreeMap<i32, ReachedLimit>>,
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
    pub fn set(&self, halted: BTreeMap<i32, ReachedLimit>) -> Vec<i32> {
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
            let limit = halted[partition].to_string();
            tracing::error!(partition, limit, "partition halted: too many dead letters");
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, ReachedLimit>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn readiness_reason(halted: &BTreeMap<i32, ReachedLimit>) -> String {
    let reasons: Vec<_> = halted
        .iter()
        .map(|(partition, limit)| format!("partition {partition} is halted: {limit}"))
        .collect();
    format!(
        "{}; fix the cause, then run `streamer dead-letters reset-limits`",
        reasons.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_reports_a_halted_partition_with_the_remedy() {
        let health = Health::default();
        let gauge = IntGauge::new("stopped", "stopped").unwrap();
        let halted = HaltedPartitions::new(health.clone(), gauge.clone());
        let three = BTreeMap::from([(3, ReachedLimit::Consecutive(9))]);
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
