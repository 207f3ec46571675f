//! One assigned partition inside the pipeline: its clock, its progress and what of it is checkpointed.

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
            epoch,
            topic_id,
            table_id,
            saved: position.next_offset,
            proven,
        }
    }

    /// The assignment it belongs to.
    pub fn assignment(&self) -> u64 {
        self.assignment
    }

    /// Stamps the record at `offset`; `dead` says that it is refused. Times in microseconds since 1970.
    pub fn take(&mut self, offset: i64, timestamp: i64, now: i64, dead: bool) -> Taken {
        let stamp = self.clock.stamp(offset, timestamp, now);
        self.head = Position {
            next_offset: offset + 1,
            last_stamp: self.clock.last(),
            high: self.clock.high(),
            tally: self.head.tally.after(dead, self.limits.window()),
        };
        self.stopped = self.limits.reached(self.head.tally);
        Taken {
            stamp: stamp.micros,
            capped: stamp.capped,
            end: self.head,
        }
    }

    /// Up to `next_offset` there is nothing more to read. The position to go on from then.
    pub fn skip_to(&mut self, next_offset: i64) -> Option<Position> {
        if next_offset <= self.head.next_offset {
            return None;
        }
        self.head.next_offset = next_offset;
        Some(self.head)
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

    /// `checkpoint` is written.
    pub fn saved(&mut self, checkpoint: &Checkpoint) {
        self.saved = self.saved.max(checkpoint.position.next_offset);
    }

    /// A checkpoint of this assignment has been read back.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// It has been, now.
    pub fn prove(&mut self) {
        self.proven = true;
    }
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
