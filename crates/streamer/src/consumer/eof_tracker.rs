//! Verifies that a partition holds no record between the last one read and the end of its log.
//!
//! Transaction markers and compacted tails have offsets without records, so a checkpoint would never reach the end. An end
//! is verified in four steps:
//!
//! 1. The consumer is idle at the end of the partition.
//! 2. The requested end of the log is further than the consumer.
//! 3. The consumer stays idle, because a record may be in flight.
//! 4. The range is read again, and the end is reached without a record. A follower may lag behind the leader, so the
//!    consumer's own fetch must have seen the high watermark of the request. The committed end is not enough: a follower
//!    that lacks a transaction's marker ends before it.
//!
//! Pure. The poll loop sends the requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a partition is idle before its end is requested, and again before the range is read.
///
/// Reading again discards the fetch buffer and waits for the fetch in flight.
const IDLE_DELAY: Duration = Duration::from_secs(2);

/// The end of a log as its leader reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogEnd {
    /// The end of the committed records.
    pub(super) committed: i64,
    /// The high watermark, requested after `committed`. Includes open transactions.
    pub(super) high_watermark: i64,
    /// The epoch of the leader that reported the high watermark, and whose log has all records before the end.
    pub(super) leader_epoch: Option<i32>,
}

/// The partitions at whose end the consumer is.
#[derive(Debug, Default)]
pub(super) struct EofTracker(BTreeMap<i32, AtEnd>);

#[derive(Debug)]
struct AtEnd {
    since: Instant,
    state: EofState,
}

#[derive(Debug, Clone, Copy)]
enum EofState {
    Idle,
    /// The end of the log has been requested.
    Requested,
    /// The log ends here, further than the consumer, and no record has arrived since.
    Further(LogEnd),
    /// The range up to this end is being read again.
    Reading(LogEnd),
}

impl EofTracker {
    /// Forgets all partitions, for a new assignment.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether the consumer is at the end of a partition.
    pub(super) fn contains(&self, partition: i32) -> bool {
        self.0.contains_key(&partition)
    }

    /// Forgets a partition that has a record, or is not read any more.
    pub(super) fn remove(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    /// Records that the consumer is at the end of `partition`, whose high watermark in its fetches is `fetched`. Returns the end
    /// once it is verified.
    pub(super) fn reached(&mut self, partition: i32, now: Instant, fetched: Option<i64>) -> Option<LogEnd> {
        let idle = AtEnd {
            since: now,
            state: EofState::Idle,
        };
        let at_end = self.0.entry(partition).or_insert(idle);
        let EofState::Reading(end) = at_end.state else {
            return None;
        };
        self.idle(partition, now);
        fetched
            .is_some_and(|fetched| fetched >= end.high_watermark)
            .then_some(end)
    }

    /// Returns the partitions that have been idle for long enough, whose ends are requested now. None while an earlier
    /// request is in flight.
    pub(super) fn request(&mut self, now: Instant) -> Vec<i32> {
        if self
            .0
            .values()
            .any(|at_end| matches!(at_end.state, EofState::Requested))
        {
            return Vec::new();
        }
        let idle =
            |at_end: &AtEnd| matches!(at_end.state, EofState::Idle) && now - at_end.since >= IDLE_DELAY;
        let due = self.0.iter_mut().filter(|(_, at_end)| idle(at_end));
        due.map(|(partition, at_end)| {
            at_end.state = EofState::Requested;
            *partition
        })
        .collect()
    }

    /// Records the requested end of the log, or that there is no response. `next` is the consumer's offset. A partition
    /// that has had a record since the request is left alone.
    pub(super) fn reported(&mut self, partition: i32, now: Instant, next: Option<i64>, end: Option<LogEnd>) {
        let Some(at_end) = self.0.get_mut(&partition) else {
            return;
        };
        if matches!(at_end.state, EofState::Requested) {
            at_end.since = now;
            at_end.state = match (next, end) {
                (Some(next), Some(end)) if end.committed > next => EofState::Further(end),
                _ => EofState::Idle,
            };
        }
    }

    /// Returns a partition that is read again from the consumer's offset now.
    pub(super) fn read_again(&self, now: Instant) -> Option<i32> {
        self.0.iter().find_map(|(partition, at_end)| {
            let due = matches!(at_end.state, EofState::Further(_)) && now - at_end.since >= IDLE_DELAY;
            due.then_some(*partition)
        })
    }

    /// Starts the idle delay again.
    pub(super) fn idle(&mut self, partition: i32, now: Instant) {
        let state = EofState::Idle;
        self.0.insert(partition, AtEnd { since: now, state });
    }

    /// Records that the range up to the requested end is being read again.
    pub(super) fn reading(&mut self, partition: i32) {
        if let Some(at_end) = self.0.get_mut(&partition)
            && let EofState::Further(end) = at_end.state
        {
            at_end.state = EofState::Reading(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(committed: i64, high_watermark: i64) -> Option<LogEnd> {
        Some(LogEnd {
            committed,
            high_watermark,
            leader_epoch: Some(2),
        })
    }

    /// The consumer is at offset 7 of partition 3, whose log is reported to end at 9, with an open transaction after it.
    fn further(ends: &mut EofTracker, now: Instant) {
        ends.reached(3, now - IDLE_DELAY, Some(7));
        assert_eq!(ends.request(now), [3]);
        ends.reported(3, now, Some(7), end(9, 12));
    }

    #[test]
    fn end_reached_twice_without_a_record_is_verified() {
        let (mut ends, start) = (EofTracker::default(), Instant::now());
        assert_eq!(ends.reached(3, start, Some(9)), None);
        assert!(ends.request(start).is_empty(), "it has not been idle");
        let later = start + IDLE_DELAY;
        further(&mut ends, later);
        assert_eq!(ends.reached(3, later, Some(9)), None, "it was not read again");
        let later = later + IDLE_DELAY;
        assert_eq!(ends.read_again(later), Some(3));
        ends.reading(3);
        assert_eq!(ends.read_again(later + IDLE_DELAY), None, "it is being read");
        assert_eq!(ends.reached(3, later, Some(12)), end(9, 12));
        assert_eq!(ends.reached(3, later, Some(12)), None, "once");
        assert_eq!(ends.request(later + IDLE_DELAY), [3]);
    }

    #[test]
    fn end_of_a_follower_that_lags_verifies_nothing() {
        for fetched in [None, Some(8), Some(11)] {
            let (mut ends, now) = (EofTracker::default(), Instant::now() + IDLE_DELAY);
            further(&mut ends, now);
            ends.reading(3);
            assert_eq!(ends.reached(3, now, fetched), None);
            assert_eq!(ends.request(now + IDLE_DELAY), [3], "requested again");
        }
    }

    #[test]
    fn record_during_the_second_read_prevents_verification() {
        let (mut ends, now) = (EofTracker::default(), Instant::now() + IDLE_DELAY);
        further(&mut ends, now);
        ends.reading(3);
        ends.remove(3);
        assert_eq!(ends.reached(3, now, Some(12)), None);
    }

    /// The end of the log may be further because a record is just arriving: that record must not be read twice.
    #[test]
    fn record_in_flight_is_awaited_before_reading_again() {
        let (mut ends, start) = (EofTracker::default(), Instant::now() + IDLE_DELAY);
        further(&mut ends, start);
        assert_eq!(ends.read_again(start + IDLE_DELAY / 2), None);
        ends.remove(3);
        assert_eq!(ends.read_again(start + IDLE_DELAY), None);
    }

    #[test]
    fn end_reported_after_a_record_is_ignored() {
        let (mut ends, now) = (EofTracker::default(), Instant::now() + IDLE_DELAY);
        ends.reached(3, now - IDLE_DELAY, Some(7));
        assert_eq!(ends.request(now), [3]);
        ends.remove(3);
        assert_eq!(ends.reached(3, now, Some(8)), None);
        ends.reported(3, now, Some(8), end(9, 9));
        assert_eq!(ends.read_again(now + IDLE_DELAY), None);
        assert_eq!(ends.request(now + IDLE_DELAY), [3]);
    }

    #[test]
    fn one_request_is_in_flight_and_a_silent_leader_gets_another() {
        let (mut ends, now) = (EofTracker::default(), Instant::now() + IDLE_DELAY);
        ends.reached(3, now - IDLE_DELAY, Some(7));
        assert_eq!(ends.request(now), [3]);
        ends.reached(4, now - IDLE_DELAY, Some(7));
        assert!(ends.request(now).is_empty());
        ends.reported(3, now, Some(7), None);
        assert_eq!(ends.request(now), [4]);
        ends.reported(4, now, Some(7), end(7, 7));
        assert_eq!(ends.request(now + IDLE_DELAY), [3, 4]);
    }
}
