//! The latencies of the last minute, for `GET /status`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::ledger::latencies::Latencies;

const WINDOW: Duration = Duration::from_secs(60);
/// The latencies of this time are forgotten together.
const SLOT: Duration = Duration::from_secs(5);

/// Collects latencies and forgets those before the last minute.
#[derive(Default)]
pub(crate) struct RecentLatencies {
    slots: Mutex<VecDeque<(Instant, Latencies)>>,
}

/// The section `end_to_end` of the status document.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct EndToEnd {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl RecentLatencies {
    /// Adds latencies that were measured at `now`.
    pub(crate) fn add(&self, latencies: &Latencies, now: Instant) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        while slots
            .front()
            .is_some_and(|(start, _)| now.duration_since(*start) >= WINDOW)
        {
            slots.pop_front();
        }
        match slots.back_mut() {
            Some((start, slot)) if now.duration_since(*start) < SLOT => slot.merge(latencies),
            _ => slots.push_back((now, latencies.clone())),
        }
    }

    /// The quantiles of the minute before `now`.
    pub(crate) fn summary(&self, now: Instant) -> EndToEnd {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Latencies::default();
        for (start, slot) in slots.iter() {
            if now.duration_since(*start) < WINDOW {
                all.merge(slot);
            }
        }
        let summary = all.summary();
        EndToEnd {
            p50_ms: summary.map(|it| it.p50_ms),
            p99_ms: summary.map(|it| it.p99_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::latencies::Bucket;

    #[test]
    fn latencies_count_for_a_minute() {
        let recent = RecentLatencies::default();
        let (started, second) = (Instant::now(), Duration::from_secs(1));
        let mut latencies = Latencies::default();
        latencies.extend([Bucket::of(8_000)]);
        recent.add(&latencies, started);
        recent.add(&latencies, started + second);
        let found = recent.summary(started + 59 * second);
        assert!(found.p50_ms.is_some_and(|it| (it - 8.0).abs() < 0.4), "{found:?}");
        assert_eq!(recent.summary(started + 60 * second), EndToEnd::default());
        recent.add(&latencies, started + 61 * second);
        assert_eq!(recent.slots.lock().unwrap().len(), 1, "old slots are removed");
    }
}
