//! The state of one assigned partition: write timestamps, durable prefix, dead-letter limits and checkpoint.

use std::time::{Duration, Instant};

use service::failpoint;
use uuid::Uuid;

use crate::checkpoint::{Checkpoint, ResolvedStart};
use crate::consumer::rebalance::StartOffset;
use crate::dead_letters::halted_partitions::HaltReason;
use crate::dead_letters::limits::DeadLetterLimits;
use crate::dead_letters::producer::RefusedDeadLetter;
use crate::dead_letters::stats::DeadLetterStats;
use crate::ledger::segment::Segment;
use crate::pipeline::offset_tracker::OffsetTracker;
use crate::pipeline::position::Position;
use crate::pipeline::write_timestamp::HybridClock;

/// The state of an assigned partition.
#[derive(Debug)]
pub struct PartitionState {
    partition: i32,
    assignment: u64,
    clock: HybridClock,
    /// The position after the last stamped record.
    head: Position,
    offsets: OffsetTracker,
    limits: DeadLetterLimits,
    /// Why no later record is accepted.
    halted: Option<HaltReason>,
    /// The ranges with a dead letter that its topic refused.
    refused: Vec<u64>,
    /// The partition is drained for its next owner.
    draining: bool,
    epoch: i64,
    topic_id: Uuid,
    table_id: Uuid,
    saved: i64,
    /// Records below this offset were durable before this assignment.
    durable_before: i64,
    /// When a checkpoint of this assignment was last read back.
    read_back: Option<Instant>,
}

impl PartitionState {
    /// Creates the state at `start`. `read_back`: when its checkpoint was stored and read back under this assignment.
    pub fn new(
        start: &ResolvedStart,
        assignment: u64,
        read_back: Option<Instant>,
        limits: DeadLetterLimits,
    ) -> Self {
        let Checkpoint {
            partition,
            position,
            epoch,
            topic_id,
            table_id,
        } = start.checkpoint;
        Self {
            partition,
            assignment,
            clock: HybridClock::resume(position.last_write_timestamp, position.max_seen),
            head: position,
            offsets: OffsetTracker::new(position, limits),
            limits,
            halted: limits.reached(position.dead_letters).map(HaltReason::DeadLetters),
            refused: Vec::new(),
            draining: false,
            epoch,
            topic_id,
            table_id,
            saved: position.next_offset,
            durable_before: position.next_offset.max(position.max_seen.offset),
            read_back,
        }
    }

    /// Stops accepting records.
    ///
    /// Records that are not being written belong to the next owner. Accepting more would let the prefix grow past a
    /// gap of unwritten records.
    pub fn start_draining(&mut self) {
        self.draining = true;
    }

    /// Assigns a write timestamp; `None` if the record is not accepted. `now` in microseconds since 1970.
    pub fn receive(&mut self, received: ReceivedRecord, now: i64) -> Option<StampedRecord> {
        let ReceivedRecord {
            assignment,
            offset,
            leader_epoch,
            timestamp,
            dead,
        } = received;
        if !self.accepts(assignment) {
            return None;
        }
        let write_timestamp = self.clock.next(offset, timestamp, now);
        self.head = Position {
            next_offset: offset + 1,
            leader_epoch,
            last_write_timestamp: self.clock.last(),
            max_seen: self.clock.max_seen(),
            dead_letters: self.head.dead_letters.after(dead, self.limits.window()),
        };
        self.halted = self.reached(self.head.dead_letters);
        Some(StampedRecord {
            write_timestamp: write_timestamp.micros,
            capped: write_timestamp.capped,
            end: self.head,
            is_new: offset >= self.durable_before,
        })
    }

    /// The offset after the last accepted record.
    pub fn next_offset(&self) -> i64 {
        self.head.next_offset
    }

    /// Skips to `end`, before which there are no more records. Returns the new position; `None` if it is not new or not
    /// accepted.
    pub fn skip_to(&mut self, assignment: u64, end: StartOffset) -> Option<Position> {
        if !self.accepts(assignment) || end.offset <= self.head.next_offset {
            return None;
        }
        self.head.next_offset = end.offset;
        // Not the last record's: markers before the end may be of later leaders.
        self.head.leader_epoch = end.leader_epoch;
        Some(self.head)
    }

    /// Rejects records of an earlier assignment, before which there may be a gap, and records of a halted or draining
    /// partition.
    fn accepts(&self, assignment: u64) -> bool {
        self.assignment == assignment && self.halted.is_none() && !self.draining
    }

    /// Completes the range `id`, as [`OffsetTracker::complete`]. A range with a refused dead letter stays open.
    pub fn complete(&mut self, id: u64, rejected: &[usize], durable_at: Vec<i64>) {
        if self.refused.contains(&id) {
            return;
        }
        self.offsets.complete(id, rejected, durable_at);
        if self.halted.is_none() {
            self.halted = self.reached(self.offsets.durable().dead_letters);
        }
    }

    fn reached(&self, dead_letters: DeadLetterStats) -> Option<HaltReason> {
        self.limits.reached(dead_letters).map(HaltReason::DeadLetters)
    }

    /// Halts the partition, because its records at `offset` can't be read.
    pub fn halt_unreadable(&mut self, assignment: u64, offset: i64, error: String) {
        if self.accepts(assignment) && self.head.next_offset == offset {
            self.halted = Some(HaltReason::Unreadable { offset, error });
        }
    }

    /// Halts the partition, because a dead letter of the range `id` is not written.
    pub fn halt_refused(&mut self, id: u64, refused: RefusedDeadLetter) {
        let RefusedDeadLetter {
            offset, topic, error, ..
        } = refused;
        if self.offsets.is_open(id) {
            self.refused.push(id);
            self.halted = Some(HaltReason::Refused { offset, topic, error });
        }
    }

    /// Whether nothing is being written any more.
    pub fn is_drained(&self) -> bool {
        self.offsets.is_drained(&self.refused)
    }

    /// Why no record is accepted any more, until the operator has fixed the cause.
    pub fn halted(&self) -> Option<HaltReason> {
        self.halted.clone()
    }

    /// The durable prefix.
    pub fn offsets(&mut self) -> &mut OffsetTracker {
        &mut self.offsets
    }

    /// The checkpoint to write, if it is further than the last one written.
    pub fn pending_checkpoint(&self) -> Option<Checkpoint> {
        let position = self.offsets.durable();
        (position.next_offset > self.saved).then_some(Checkpoint {
            partition: self.partition,
            position,
            epoch: self.epoch,
            topic_id: self.topic_id,
            table_id: self.table_id,
        })
    }

    /// The segments to write before `checkpoint`, the pending one.
    pub fn pending_segments(&mut self, checkpoint: &Checkpoint) -> Vec<Segment> {
        let from = self.saved;
        let mut segments = self.offsets.entries().segments(checkpoint, from);
        if self.draining
            && failpoint::inject("number_left_out")
            && let Some(segment) = segments.last_mut()
        {
            segment.numbers.stored.pop();
        }
        segments
    }

    /// The assignment of the partition.
    pub fn assignment(&self) -> u64 {
        self.assignment
    }

    /// Records that `checkpoint` and its segments are written, and when it was read back if it was.
    ///
    /// Returns false for a checkpoint whose write began under an earlier `assignment`, which proves nothing about
    /// this one.
    pub fn saved(&mut self, assignment: u64, checkpoint: &Checkpoint, read_back: Option<Instant>) -> bool {
        if assignment != self.assignment {
            return false;
        }
        self.saved = self.saved.max(checkpoint.position.next_offset);
        self.offsets.entries().remove_before(self.saved);
        self.read_back = read_back.or(self.read_back);
        true
    }

    /// Whether the next checkpoint must be read back: none of this assignment was for `interval`.
    pub fn is_read_back_due(&self, now: Instant, interval: Duration) -> bool {
        self.read_back
            .is_none_or(|last| now.duration_since(last) >= interval)
    }
}

/// A record received from the consumer.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedRecord {
    /// The assignment under which it was read.
    pub assignment: u64,
    /// The offset.
    pub offset: i64,
    /// The epoch of the leader that appended it.
    pub leader_epoch: Option<i32>,
    /// Its own timestamp in microseconds since 1970.
    pub timestamp: i64,
    /// It is rejected and becomes a dead letter.
    pub dead: bool,
}

/// A record with its write timestamp.
#[derive(Clone, Copy, Debug)]
pub struct StampedRecord {
    /// The write timestamp in microseconds since 1970.
    pub write_timestamp: i64,
    /// The record's own timestamp was too far ahead and was capped.
    pub capped: bool,
    /// The record was not durable before this assignment, as far as is known.
    pub is_new: bool,
    /// The partition's position after the record.
    pub end: Position,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::StartReason;
    use crate::config::DeadLetterSettings;
    use crate::pipeline::offset_tracker::BatchRecords;
    use crate::pipeline::write_timestamp::MaxSeen;

    const NOW: i64 = 1_800_000_000_000_000;

    /// Assignment 2, offset 5.
    fn state() -> PartitionState {
        let position = Position {
            next_offset: 5,
            leader_epoch: None,
            last_write_timestamp: None,
            max_seen: MaxSeen::default(),
            dead_letters: DeadLetterStats::default(),
        };
        let checkpoint = Checkpoint {
            partition: 0,
            position,
            epoch: NOW,
            topic_id: Uuid::from_u128(1),
            table_id: Uuid::from_u128(2),
        };
        let start = ResolvedStart {
            checkpoint,
            reason: StartReason::Checkpoint,
        };
        let limits = DeadLetterLimits::new(&DeadLetterSettings {
            max_consecutive: 2,
            ..DeadLetterSettings::default()
        });
        PartitionState::new(&start, 2, None, limits)
    }

    fn end(offset: i64) -> StartOffset {
        StartOffset {
            partition: 0,
            offset,
            leader_epoch: Some(4),
        }
    }

    fn received(assignment: u64, offset: i64, dead: bool) -> ReceivedRecord {
        ReceivedRecord {
            assignment,
            offset,
            leader_epoch: Some(3),
            timestamp: NOW,
            dead,
        }
    }

    #[test]
    fn records_of_an_earlier_assignment_are_not_accepted() {
        let mut state = state();
        assert!(state.receive(received(1, 5, false), NOW).is_none());
        assert!(state.skip_to(1, end(9)).is_none());
        assert_eq!(
            state.receive(received(2, 5, false), NOW).unwrap().end.next_offset,
            6
        );
        let skipped = state.skip_to(2, end(9)).unwrap();
        assert_eq!((skipped.next_offset, skipped.leader_epoch), (9, Some(4)));
    }

    #[test]
    fn draining_partition_accepts_nothing_and_completes_writes() {
        let mut state = state();
        let stamped = state.receive(received(2, 5, false), NOW).unwrap();
        state.offsets().open(1, stamped.end, BatchRecords::default());
        state.start_draining();
        assert!(state.receive(received(2, 6, false), NOW).is_none());
        assert!(state.skip_to(2, end(9)).is_none());
        state.complete(1, &[], Vec::new());
        assert_eq!(state.pending_checkpoint().unwrap().position.next_offset, 6);
    }

    #[test]
    fn no_record_is_accepted_after_a_reached_limit() {
        let mut state = state();
        assert!(state.receive(received(2, 5, true), NOW).is_some());
        assert!(state.receive(received(2, 6, true), NOW).is_some());
        assert!(state.halted().is_some());
        assert!(state.receive(received(2, 7, false), NOW).is_none());
    }

    #[test]
    fn unreadable_offset_halts_only_the_partition_that_waits_for_it() {
        let mut state = state();
        state.halt_unreadable(1, 5, "another assignment".to_owned());
        state.halt_unreadable(2, 6, "not reached yet".to_owned());
        assert!(state.halted().is_none());
        state.halt_unreadable(2, 5, "corrupt".to_owned());
        let reason = state.halted().unwrap().to_string();
        assert!(
            reason.contains("offset 5") && reason.contains("corrupt"),
            "{reason}"
        );
        assert!(state.receive(received(2, 5, false), NOW).is_none());
    }

    #[test]
    fn refused_dead_letter_halts_its_partition_before_the_record() {
        let mut state = state();
        let refused = |state: &mut PartitionState, range| {
            let refused = RefusedDeadLetter {
                partition: 0,
                offset: 6,
                topic: "letters".to_owned(),
                error: "too large".to_owned(),
            };
            state.halt_refused(range, refused);
            state.complete(range, &[], Vec::new());
        };
        for range in 1..4 {
            let offset = 4 + i64::try_from(range).unwrap();
            let stamped = state.receive(received(2, offset, false), NOW).unwrap();
            state.offsets().open(range, stamped.end, BatchRecords::default());
        }
        refused(&mut state, 9);
        assert!(state.halted().is_none(), "a range of an earlier assignment");
        refused(&mut state, 2);
        let reason = state.halted().unwrap().to_string();
        assert!(
            reason.contains("letters") && reason.contains("offset 6: too large"),
            "{reason}"
        );
        state.complete(3, &[], Vec::new());
        assert!(!state.is_drained());
        state.complete(1, &[], Vec::new());
        assert_eq!(state.pending_checkpoint().unwrap().position.next_offset, 6);
        assert!(state.is_drained() && state.receive(received(2, 8, false), NOW).is_none());
    }

    #[test]
    fn checkpoint_of_an_earlier_assignment_verifies_nothing() {
        let mut state = state();
        let stamped = state.receive(received(2, 5, false), NOW).unwrap();
        state.offsets().open(1, stamped.end, BatchRecords::default());
        state.complete(1, &[], Vec::new());
        let checkpoint = state.pending_checkpoint().unwrap();
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        assert!(!state.saved(1, &checkpoint, Some(now)));
        assert!(state.pending_checkpoint().is_some() && state.is_read_back_due(now, minute));
        assert!(state.saved(2, &checkpoint, Some(now)));
        assert!(state.pending_checkpoint().is_none() && !state.is_read_back_due(now, minute));
        assert!(state.saved(2, &checkpoint, None));
        assert!(
            state.is_read_back_due(now + minute, minute),
            "again after the interval"
        );
    }
}
