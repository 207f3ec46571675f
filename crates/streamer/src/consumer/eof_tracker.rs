//! Verifies that a partition holds no record between the last one read and the end of its log.
//!
//! Transaction markers and compacted tails have offsets without records, so a checkpoint would never reach the end. An end
//! is verified in four steps:
//!
//! 1. The consumer is idle at the end of the partition.
//! 2. The requested end of the log is further than the consumer.
//! 3. The consumer stays idle, because a record may be in flight.
//! 4. The range is read again, and the end is reached without a record. A follower's end may be lower than the leader's, so
//!    the consumer's own fetch must have seen that far.
//!
//! Pure. The poll loop sends the requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a partition is idle before its end is requested, and again before the range is read.
///
/// Reading again discards the fetch buffer and waits for the fetch in flight.
const IDLE_DELAY: Duration = Duration::from_secs(2);

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
    /// The log ends at this offset, further than the consumer, and no record has arrived since.
    Further(i64),
    /// The range up to this offset is being read again.
    Reading(i64),
}

/// The next step for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Request the end of the log.
    RequestEnd(i32),
    /// Read again from the consumer's offset.
    ReadAgain(i32),
}

impl EofTracker {
    /// Forgets all partitions, for a new assignment.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Forgets a partition that has a record, or is not read any more.
    pub(super) fn remove(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    /// Records that the consumer is at the end of `partition`, which its fetches know up to `fetched`. Returns the end of the
    /// log once it is verified.
    pub(super) fn reached(&mut self, partition: i32, now: Instant, fetched: Option<i64>) -> Option<i64> {
        let idle = AtEnd {
            since: now,
            state: EofState::Idle,
        };
        let at_end = self.0.entry(partition).or_insert(idle);
        let EofState::Reading(end) = at_end.state else {
            return None;
        };
        self.idle(partition, now);
        fetched.is_some_and(|fetched| fetched >= end).then_some(end)
    }

    /// Returns the next step for a partition that has been idle for long enough.
    pub(super) fn next_step(&self, now: Instant) -> Option<NextStep> {
        self.0.iter().find_map(|(partition, at_end)| match at_end.state {
            _ if now - at_end.since < IDLE_DELAY => None,
            EofState::Idle => Some(NextStep::RequestEnd(*partition)),
            EofState::Further(_) => Some(NextStep::ReadAgain(*partition)),
            EofState::Reading(_) => None,
        })
    }

    /// Starts the idle delay again.
    pub(super) fn idle(&mut self, partition: i32, now: Instant) {
        self.set(partition, now, EofState::Idle);
    }

    /// Records that the log ends at `end`, further than the last record read.
    pub(super) fn further(&mut self, partition: i32, now: Instant, end: i64) {
        self.set(partition, now, EofState::Further(end));
    }

    /// Records that the range up to the requested end is being read again.
    pub(super) fn reading(&mut self, partition: i32) {
        if let Some(at_end) = self.0.get_mut(&partition)
            && let EofState::Further(end) = at_end.state
        {
            at_end.state = EofState::Reading(end);
        }
    }

    fn set(&mut self, partition: i32, since: Instant, state: EofState) {
        self.0.insert(partition, AtEnd { since, state });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_reached_twice_without_a_record_is_verified() {
        let (mut ends, start) = (EofTracker::default(), Instant::now());
        assert_eq!(ends.reached(3, start, Some(9)), None);
        assert_eq!(ends.next_step(start), None, "it has not been idle");
        let later = start + IDLE_DELAY;
        assert_eq!(ends.next_step(later), Some(NextStep::RequestEnd(3)));
        ends.further(3, later, 9);
        assert_eq!(ends.reached(3, later, Some(9)), None, "it was not read again");
        let later = later + IDLE_DELAY;
        assert_eq!(ends.next_step(later), Some(NextStep::ReadAgain(3)));
        ends.reading(3);
        assert_eq!(ends.next_step(later + IDLE_DELAY), None, "it is being read");
        assert_eq!(ends.reached(3, later, Some(9)), Some(9));
        assert_eq!(ends.reached(3, later, Some(9)), None, "once");
        assert_eq!(ends.next_step(later + IDLE_DELAY), Some(NextStep::RequestEnd(3)));
    }

    #[test]
    fn end_of_a_follower_that_lags_verifies_nothing() {
        let (mut ends, now) = (EofTracker::default(), Instant::now());
        for fetched in [None, Some(8)] {
            ends.further(3, now, 9);
            ends.reading(3);
            assert_eq!(ends.reached(3, now, fetched), None);
            assert_eq!(
                ends.next_step(now + IDLE_DELAY),
                Some(NextStep::RequestEnd(3)),
                "asked again"
            );
        }
    }

    #[test]
    fn record_during_the_second_read_prevents_verification() {
        let (mut ends, now) = (EofTracker::default(), Instant::now());
        ends.further(3, now, 9);
        ends.reading(3);
        ends.remove(3);
        assert_eq!(ends.reached(3, now, Some(9)), None);
    }

    /// The end of the log may be further because a record is just arriving: that record must not be read twice.
    #[test]
    fn record_in_flight_is_awaited_before_reading_again() {
        let (mut ends, start) = (EofTracker::default(), Instant::now());
        ends.further(3, start, 9);
        assert_eq!(ends.next_step(start + IDLE_DELAY / 2), None);
        ends.remove(3);
        assert_eq!(ends.next_step(start + IDLE_DELAY), None);
    }
}
