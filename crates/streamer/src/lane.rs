//! One assigned partition inside the pipeline: which of its records are taken, its clock, its progress and what of it is
//! checkpointed.

use uuid::Uuid;

use crate::checkpoint::{Checkpoint, Start};
use crate::clock::HybridClock;
use crate::progress::{Position, Progress};
use crate::tally::{Limit, Limits};

/// The state of an assigned partition.
#[derive(Debug)]
pub struct Lane {
    partition: i32,
    assignment: u64,
    clock: HybridClock,
    /// After the last record that was stamped.
    head: Position,
    progress: Progress,
    limits: Limits,
    /// A record was taken that reached one; none after it is.
    stopped: Option<Limit>,
    /// It is drained for its next owner.
    given_back: bool,
    epoch: i64,
    topic_id: Uuid,
    table_id: Uuid,
    saved: i64,
    proven: bool,
}

impl Lane {
    /// Goes on from `start`. `proven`: its checkpoint was stored and read back under this assignment.
    pub fn resume(start: &Start, assignment: u64, proven: bool, limits: Limits) -> Self {
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
            clock: HybridClock::resume(position.last_stamp, position.high),
            head: position,
            progress: Progress::from(position, limits),
            limits,
            stopped: limits.reached(position.tally),
            given_back: false,
            epoch,
            topic_id,
            table_id,
            saved: position.next_offset,
            proven,
        }
    }

    /// From here on it takes nothing: what is read and not yet being written is its next owner's. What still came of it
    /// would let the prefix go on behind a gap that nobody has written.
    pub fn give_back(&mut self) {
        self.given_back = true;
    }

    /// Stamps a record; none: it is not taken. `now` in microseconds since 1970.
    pub fn take(&mut self, arrival: Arrival, now: i64) -> Option<Taken> {
        let Arrival {
            assignment,
            offset,
            timestamp,
            dead,
        } = arrival;
        if !self.takes(assignment) {
            return None;
        }
        let stamp = self.clock.stamp(offset, timestamp, now);
        self.head = Position {
            next_offset: offset + 1,
            last_stamp: self.clock.last(),
            high: self.clock.high(),
            tally: self.head.tally.after(dead, self.limits.window()),
        };
        self.stopped = self.limits.reached(self.head.tally);
        Some(Taken {
            stamp: stamp.micros,
            capped: stamp.capped,
            end: self.head,
        })
    }

    /// Up to `next_offset` there is nothing more to read. The position to go on from then; none: it is not news, or not
    /// taken.
    pub fn skip_to(&mut self, assignment: u64, next_offset: i64) -> Option<Position> {
        if !self.takes(assignment) || next_offset <= self.head.next_offset {
            return None;
        }
        self.head.next_offset = next_offset;
        Some(self.head)
    }

    /// Not what was read under another assignment: it may have a gap before it. Not of a stopped partition: that waits for
    /// the operator.
    fn takes(&self, assignment: u64) -> bool {
        self.assignment == assignment && self.stopped.is_none() && !self.given_back
    }

    /// The stretch `id` is durable; `refused` of its records became dead letters although they were to be rows.
    pub fn complete(&mut self, id: u64, refused: &[usize]) {
        self.progress.complete(id, refused);
        if self.stopped.is_none() {
            self.stopped = self.limits.reached(self.progress.durable().tally);
        }
    }

    /// The limit of dead letters that it has reached: no record of it is taken any more, by anybody, until the
    /// operator clears the tally.
    pub fn stopped(&self) -> Option<Limit> {
        self.stopped
    }

    /// How far it is durable.
    pub fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// The checkpoint to write, when it is further than the one written last.
    pub fn unsaved(&self) -> Option<Checkpoint> {
        let position = self.progress.durable();
        (position.next_offset > self.saved).then_some(Checkpoint {
            partition: self.partition,
            position,
            epoch: self.epoch,
            topic_id: self.topic_id,
            table_id: self.table_id,
        })
    }

    /// The assignment it belongs to.
    pub fn assignment(&self) -> u64 {
        self.assignment
    }

    /// `checkpoint`, whose write began under `assignment`, is written, and was read back if [`Lane::is_proven`] was false
    /// then. False: it is of an assignment before this one, and says nothing of this one.
    pub fn saved(&mut self, assignment: u64, checkpoint: &Checkpoint) -> bool {
        if assignment != self.assignment {
            return false;
        }
        self.saved = self.saved.max(checkpoint.position.next_offset);
        self.proven = true;
        true
    }

    /// A checkpoint of this assignment has been read back.
    pub fn is_proven(&self) -> bool {
        self.proven
    }
}

/// A record as it comes from the consumer.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The assignment under which it was read.
    pub assignment: u64,
    /// The offset.
    pub offset: i64,
    /// Its own timestamp in microseconds since 1970.
    pub timestamp: i64,
    /// It is refused, and becomes a dead letter.
    pub dead: bool,
}

/// What [`Lane::take`] gives a record.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The write timestamp in microseconds since 1970.
    pub stamp: i64,
    /// The record's own timestamp was too far ahead.
    pub capped: bool,
    /// Where the partition stands after it.
    pub end: Position,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Because;
    use crate::clock::HighMark;
    use crate::progress::Records;
    use crate::settings::DeadLetterSettings;
    use crate::tally::Tally;

    const NOW: i64 = 1_800_000_000_000_000;

    /// Of assignment 2, at offset 5.
    fn lane() -> Lane {
        let position = Position {
            next_offset: 5,
            last_stamp: None,
            high: HighMark::default(),
            tally: Tally::default(),
        };
        let checkpoint = Checkpoint {
            partition: 0,
            position,
            epoch: NOW,
            topic_id: Uuid::from_u128(1),
            table_id: Uuid::from_u128(2),
        };
        let start = Start {
            checkpoint,
            because: Because::Checkpoint,
        };
        let limits = Limits::new(&DeadLetterSettings {
            max_consecutive: 2,
            ..DeadLetterSettings::default()
        });
        Lane::resume(&start, 2, false, limits)
    }

    fn arrival(assignment: u64, offset: i64, dead: bool) -> Arrival {
        Arrival {
            assignment,
            offset,
            timestamp: NOW,
            dead,
        }
    }

    #[test]
    fn what_was_read_under_an_assignment_before_is_not_taken() {
        let mut lane = lane();
        assert!(lane.take(arrival(1, 5, false), NOW).is_none());
        assert!(lane.skip_to(1, 9).is_none());
        assert_eq!(lane.take(arrival(2, 5, false), NOW).unwrap().end.next_offset, 6);
        assert_eq!(lane.skip_to(2, 9).unwrap().next_offset, 9);
    }

    #[test]
    fn a_lane_that_is_given_back_takes_nothing_and_finishes_what_is_being_written() {
        let mut lane = lane();
        let taken = lane.take(arrival(2, 5, false), NOW).unwrap();
        lane.progress().open(1, taken.end, Records::default());
        lane.give_back();
        assert!(lane.take(arrival(2, 6, false), NOW).is_none());
        assert!(lane.skip_to(2, 9).is_none());
        lane.complete(1, &[]);
        assert_eq!(lane.unsaved().unwrap().position.next_offset, 6);
    }

    #[test]
    fn after_the_record_that_reaches_a_limit_nothing_is_taken() {
        let mut lane = lane();
        assert!(lane.take(arrival(2, 5, true), NOW).is_some());
        assert!(lane.take(arrival(2, 6, true), NOW).is_some());
        assert!(lane.stopped().is_some());
        assert!(lane.take(arrival(2, 7, false), NOW).is_none());
    }

    #[test]
    fn a_checkpoint_that_an_assignment_before_began_to_write_proves_nothing_of_this_one() {
        let mut lane = lane();
        let taken = lane.take(arrival(2, 5, false), NOW).unwrap();
        lane.progress().open(1, taken.end, Records::default());
        lane.complete(1, &[]);
        let checkpoint = lane.unsaved().unwrap();
        assert!(!lane.saved(1, &checkpoint));
        assert!(lane.unsaved().is_some() && !lane.is_proven());
        assert!(lane.saved(2, &checkpoint));
        assert!(lane.unsaved().is_none() && lane.is_proven());
    }
}
