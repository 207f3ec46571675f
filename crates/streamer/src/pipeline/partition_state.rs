//! The state of one assigned partition: write timestamps, durable prefix, dead-letter limits and checkpoint.

use uuid::Uuid;

use crate::checkpoint::{Checkpoint, ResolvedStart};
use crate::dead_letters::limits::{DeadLetterLimits, ReachedLimit};
use crate::pipeline::offset_tracker::{OffsetTracker, Position};
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
    /// The limit that an accepted record has reached. No later record is accepted.
    halted: Option<ReachedLimit>,
    /// The partition is drained for its next owner.
    draining: bool,
    epoch: i64,
    topic_id: Uuid,
    table_id: Uuid,
    saved: i64,
    verified: bool,
}

impl PartitionState {
    /// Creates the state at `start`. `verified`: its checkpoint was stored and read back under this assignment.
    pub fn new(start: &ResolvedStart, assignment: u64, verified: bool, limits: DeadLetterLimits) -> Self {
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
            halted: limits.reached(position.dead_letters),
            draining: false,
            epoch,
            topic_id,
            table_id,
            saved: position.next_offset,
            verified,
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
            timestamp,
            dead,
        } = received;
        if !self.accepts(assignment) {
            return None;
        }
        let write_timestamp = self.clock.next(offset, timestamp, now);
        self.head = Position {
            next_offset: offset + 1,
            last_write_timestamp: self.clock.last(),
            max_seen: self.clock.max_seen(),
            dead_letters: self.head.dead_letters.after(dead, self.limits.window()),
        };
        self.halted = self.limits.reached(self.head.dead_letters);
        Some(StampedRecord {
            write_timestamp: write_timestamp.micros,
            capped: write_timestamp.capped,
            end: self.head,
        })
    }

    /// Skips to `next_offset`, before which there are no more records. Returns the new position; `None` if it is not
    /// new or not accepted.
    pub fn skip_to(&mut self, assignment: u64, next_offset: i64) -> Option<Position> {
        if !self.accepts(assignment) || next_offset <= self.head.next_offset {
            return None;
        }
        self.head.next_offset = next_offset;
        Some(self.head)
    }

    /// Rejects records of an earlier assignment, before which there may be a gap, and records of a halted or draining
    /// partition.
    fn accepts(&self, assignment: u64) -> bool {
        self.assignment == assignment && self.halted.is_none() && !self.draining
    }

    /// Completes the range `id`. Cassandra rejected the records with the indices `rejected`.
    pub fn complete(&mut self, id: u64, rejected: &[usize]) {
        self.offsets.complete(id, rejected);
        if self.halted.is_none() {
            self.halted = self.limits.reached(self.offsets.durable().dead_letters);
        }
    }

    /// The reached limit of dead letters. No record is accepted until the operator resets the limits.
    pub fn halted(&self) -> Option<ReachedLimit> {
        self.halted
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

    /// The assignment of the partition.
    pub fn assignment(&self) -> u64 {
        self.assignment
    }

    /// Records that `checkpoint` is written, and was read back if [`PartitionState::is_verified`] was false.
    ///
    /// Returns false for a checkpoint whose write began under an earlier `assignment`, which proves nothing about
    /// this one.
    pub fn saved(&mut self, assignment: u64, checkpoint: &Checkpoint) -> bool {
        if assignment != self.assignment {
            return false;
        }
        self.saved = self.saved.max(checkpoint.position.next_offset);
        self.verified = true;
        true
    }

    /// Whether a checkpoint of this assignment has been read back.
    pub fn is_verified(&self) -> bool {
        self.verified
    }
}

/// A record received from the consumer.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedRecord {
    /// The assignment under which it was read.
    pub assignment: u64,
    /// The offset.
    pub offset: i64,
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
    /// The partition's position after the record.
    pub end: Position,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::StartReason;
    use crate::config::DeadLetterSettings;
    use crate::dead_letters::stats::DeadLetterStats;
    use crate::pipeline::offset_tracker::BatchRecords;
    use crate::pipeline::write_timestamp::MaxSeen;

    const NOW: i64 = 1_800_000_000_000_000;

    /// Assignment 2, offset 5.
    fn state() -> PartitionState {
        let position = Position {
            next_offset: 5,
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
        PartitionState::new(&start, 2, false, limits)
    }

    fn received(assignment: u64, offset: i64, dead: bool) -> ReceivedRecord {
        ReceivedRecord {
            assignment,
            offset,
            timestamp: NOW,
            dead,
        }
    }

    #[test]
    fn records_of_an_earlier_assignment_are_not_accepted() {
        let mut state = state();
        assert!(state.receive(received(1, 5, false), NOW).is_none());
        assert!(state.skip_to(1, 9).is_none());
        assert_eq!(
            state.receive(received(2, 5, false), NOW).unwrap().end.next_offset,
            6
        );
        assert_eq!(state.skip_to(2, 9).unwrap().next_offset, 9);
    }

    #[test]
    fn draining_partition_accepts_nothing_and_completes_writes() {
        let mut state = state();
        let stamped = state.receive(received(2, 5, false), NOW).unwrap();
        state.offsets().open(1, stamped.end, BatchRecords::default());
        state.start_draining();
        assert!(state.receive(received(2, 6, false), NOW).is_none());
        assert!(state.skip_to(2, 9).is_none());
        state.complete(1, &[]);
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
    fn checkpoint_of_an_earlier_assignment_verifies_nothing() {
        let mut state = state();
        let stamped = state.receive(received(2, 5, false), NOW).unwrap();
        state.offsets().open(1, stamped.end, BatchRecords::default());
        state.complete(1, &[]);
        let checkpoint = state.pending_checkpoint().unwrap();
        assert!(!state.saved(1, &checkpoint));
        assert!(state.pending_checkpoint().is_some() && !state.is_verified());
        assert!(state.saved(2, &checkpoint));
        assert!(state.pending_checkpoint().is_none() && state.is_verified());
    }
}
