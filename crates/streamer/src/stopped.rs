//! The partitions that stand still because of their dead letters, as they are told: once in the log, in `/readyz` and
//! as a metric. Whether a partition stops is [`tally`](crate::tally)'s decision.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use service::Health;

use crate::seldom::Seldom;
use crate::tally::Limit;

/// The stopped partitions of this member.
pub struct Stopped {
    partitions: Mutex<BTreeMap<i32, Limit>>,
    dependency: Seldom,
    gauge: IntGauge,
}

impl Stopped {
    /// None is.
    pub fn new(health: Health, gauge: IntGauge) -> Self {
        Self {
            partitions: Mutex::default(),
            dependency: Seldom::new(health, "partitions"),
            gauge,
        }
    }

    /// These are, and no others. Returns those that were not before.
    pub fn set(&self, stopped: BTreeMap<i32, Limit>) -> Vec<i32> {
        let mut known = self.lock();
        if *known == stopped {
            return Vec::new();
        }
        let new: Vec<_> = stopped
            .keys()
            .filter(|partition| !known.contains_key(partition))
            .copied()
            .collect();
        for partition in &new {
            let limit = stopped[partition].to_string();
            tracing::error!(partition, limit, "partition stopped: too many dead letters");
        }
        self.gauge.set(i64::try_from(stopped.len()).unwrap_or(i64::MAX));
        if stopped.is_empty() {
            self.dependency.ready();
        } else {
            self.dependency.unready(reason(&stopped));
        }
        *known = stopped;
        new
    }

    /// Whether `partition` is.
    pub fn contains(&self, partition: i32) -> bool {
        self.lock().contains_key(&partition)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Limit>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reason(stopped: &BTreeMap<i32, Limit>) -> String {
    let told: Vec<_> = stopped
        .iter()
        .map(|(partition, limit)| format!("partition {partition} is stopped: {limit}"))
        .collect();
    format!("{}; mend the cause, then run `streamer resume`", told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_new_once_and_readiness_names_partition_limit_and_way_out() {
        let health = Health::default();
        let gauge = IntGauge::new("stopped", "stopped").unwrap();
        let stopped = Stopped::new(health.clone(), gauge.clone());
        let three = BTreeMap::from([(3, Limit::InARow(9))]);
        assert_eq!(stopped.set(three.clone()), [3]);
        assert!(stopped.set(three).is_empty() && stopped.contains(3) && !stopped.contains(0));
        let reason = health.readiness().dependencies[0].reason.clone().unwrap();
        assert!(
            reason.contains("partition 3") && reason.contains("9 dead letters in a row"),
            "{reason}"
        );
        assert!(reason.contains("streamer resume"), "{reason}");
        assert_eq!(gauge.get(), 1);
        stopped.set(BTreeMap::new());
        assert!(health.readiness().ready && gauge.get() == 0);
    }
}
