//! One member of the group, as the pipeline is one: its consumer reads ahead into a channel, it takes from there, gathers,
//! writes several micro-batches at once, and saves the durable prefix. What it has not saved dies with it; what it has
//! written stays. It may lose the partition and be given it again: then the channel still holds what was read before.

use std::collections::VecDeque;

use streamer::checkpoint::{Checkpoint, ResolvedStart};
use streamer::dead_letters::limits::DeadLetterLimits;
use streamer::pipeline::offset_tracker::{BatchRecords, Position};
use streamer::pipeline::partition_state::{PartitionState, ReceivedRecord};

use crate::Chance;
use crate::servers::{Event, Kind, Record, Stored, Table, Topic};

/// A record on its way, with its stamp.
#[derive(Clone, Copy)]
struct Operation {
    record: Record,
    stamp: i64,
}

struct Batch {
    id: u64,
    operations: Vec<Operation>,
}

/// What the consumer has read and the member has not taken yet, with the assignment it was read under.
enum Chunk {
    Records(u64, Vec<Record>),
    End(u64, i64),
}

/// A checkpoint whose write is under way, with the assignment it began under.
type Saving = (u64, Checkpoint);

const CHUNKS: usize = 4;

pub(crate) struct Member {
    lane: PartitionState,
    assignment: u64,
    topic: usize,
    table: uuid::Uuid,
    epoch: i64,
    /// The next offset to read.
    next: i64,
    channel: VecDeque<Chunk>,
    filling: Vec<Operation>,
    end: Option<Position>,
    writing: Vec<Batch>,
    saving: Option<Saving>,
    batches: u64,
    /// How far its clock is wrong.
    skew: i64,
}

impl Member {
    pub(crate) fn new(start: &ResolvedStart, topic: &Topic, limits: DeadLetterLimits, skew: i64) -> Self {
        Self {
            lane: PartitionState::new(start, 1, true, limits),
            assignment: 1,
            topic: topic.number,
            table: start.checkpoint.table_id,
            epoch: start.checkpoint.epoch,
            next: start.checkpoint.position.next_offset,
            channel: VecDeque::new(),
            filling: Vec::new(),
            end: None,
            writing: Vec::new(),
            saving: None,
            batches: 0,
            skew,
        }
    }

    /// The same process has the partition again. What is being written, and what was read before, is still on its way.
    pub(crate) fn again(self, start: &ResolvedStart, limits: DeadLetterLimits) -> Self {
        let assignment = self.assignment + 1;
        Self {
            lane: PartitionState::new(start, assignment, true, limits),
            assignment,
            epoch: start.checkpoint.epoch,
            next: start.checkpoint.position.next_offset,
            filling: Vec::new(),
            end: None,
            ..self
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lane.halted().is_some()
    }

    pub(crate) fn writes_to(&self, topic: &Topic, table: &Table) -> bool {
        self.topic == topic.number && self.table == table.id
    }

    /// The consumer reads up to `most` records, while the channel has room; at the end it tells how far that is.
    pub(crate) fn read(&mut self, topic: &Topic, most: usize) {
        if self.channel.len() >= CHUNKS {
            return;
        }
        let records: Vec<_> = topic.from(self.next).iter().take(most).copied().collect();
        let chunk = match records.last() {
            Some(last) => {
                self.next = last.offset + 1;
                Chunk::Records(self.assignment, records)
            }
            None => {
                self.next = topic.end;
                Chunk::End(self.assignment, topic.end)
            }
        };
        self.channel.push_back(chunk);
    }

    /// Takes what comes next out of the channel.
    pub(crate) fn receive(&mut self, stored: &mut Stored, now: i64) -> Result<(), String> {
        match self.channel.pop_front() {
            Some(Chunk::Records(assignment, records)) => {
                for record in records {
                    self.take(assignment, record, stored, now)?;
                }
            }
            Some(Chunk::End(assignment, offset)) if self.filling.is_empty() => {
                if let Some(end) = self.lane.skip_to(assignment, offset) {
                    self.batches += 1;
                    self.lane
                        .offsets()
                        .open(self.batches, end, BatchRecords::default());
                    self.lane.complete(self.batches, &[]);
                }
            }
            Some(Chunk::End(..)) | None => {}
        }
        Ok(())
    }

    fn take(&mut self, assignment: u64, record: Record, stored: &mut Stored, now: i64) -> Result<(), String> {
        let arrival = ReceivedRecord {
            assignment,
            offset: record.offset,
            timestamp: record.timestamp,
            dead: record.kind == Kind::Garbage,
        };
        let Some(taken) = self.lane.receive(arrival, now + self.skew) else {
            return Ok(());
        };
        if taken.end.next_offset != record.offset + 1 {
            return Err(format!(
                "after offset {} comes {}",
                record.offset, taken.end.next_offset
            ));
        }
        stored.stamped((self.topic, record.offset), self.epoch, taken.write_timestamp)?;
        self.end = Some(taken.end);
        self.filling.push(Operation {
            record,
            stamp: taken.write_timestamp,
        });
        Ok(())
    }

    pub(crate) fn flush(&mut self) {
        let Some(end) = self.end.take() else { return };
        let operations = std::mem::take(&mut self.filling);
        let dead = (0..)
            .zip(&operations)
            .filter(|(_, operation)| operation.record.kind == Kind::Garbage);
        let records = BatchRecords {
            count: operations.len(),
            dead: dead.map(|(place, _)| place).collect(),
        };
        self.batches += 1;
        self.lane.offsets().open(self.batches, end, records);
        self.writing.push(Batch {
            id: self.batches,
            operations,
        });
    }

    /// One record of what is being written becomes durable.
    pub(crate) fn write_one(&mut self, table: &mut Table, stored: &mut Stored, chance: &mut Chance) {
        if self.writing.is_empty() {
            return;
        }
        let batch = chance.below(self.writing.len());
        let place = chance.below(self.writing[batch].operations.len());
        settle(&self.writing[batch].operations[place], self.topic, table, stored);
    }

    /// Any micro-batch that is being written becomes durable as a whole.
    pub(crate) fn complete(&mut self, table: &mut Table, stored: &mut Stored, chance: &mut Chance) {
        if self.writing.is_empty() {
            return;
        }
        let batch = self.writing.swap_remove(chance.below(self.writing.len()));
        for operation in &batch.operations {
            settle(operation, self.topic, table, stored);
        }
        let refused = (0..)
            .zip(&batch.operations)
            .filter(|(_, operation)| operation.record.kind == Kind::Refused);
        let refused: Vec<_> = refused.map(|(place, _)| place).collect();
        self.lane.complete(batch.id, &refused);
    }

    /// Starts to write the checkpoint, unless that is under way.
    pub(crate) fn save(&mut self) {
        if self.saving.is_none() {
            self.saving = self
                .lane
                .pending_checkpoint()
                .map(|checkpoint| (self.assignment, checkpoint));
        }
    }

    /// The write of the checkpoint lands, or is lost.
    pub(crate) fn land(&mut self, stored: &mut Stored, lost: bool) -> Result<(), String> {
        let Some((assignment, checkpoint)) = self.saving.take().filter(|_| !lost) else {
            return Ok(());
        };
        stored.store(checkpoint)?;
        self.lane.saved(assignment, &checkpoint);
        Ok(())
    }

    /// Revoked: what is not being written is dropped, the rest is finished and saved, while what was read before still
    /// comes out of the channel.
    pub(crate) fn drain(
        &mut self,
        table: &mut Table,
        stored: &mut Stored,
        chance: &mut Chance,
        now: i64,
    ) -> Result<(), String> {
        self.lane.start_draining();
        self.filling.clear();
        self.end = None;
        while !self.lane.offsets().is_drained() || self.lane.pending_checkpoint().is_some() {
            match chance.below(6) {
                0 => self.receive(stored, now)?,
                1 => self.flush(),
                2 | 3 => self.complete(table, stored, chance),
                4 => self.save(),
                _ => self.land(stored, false)?,
            }
        }
        Ok(())
    }
}

fn settle(operation: &Operation, topic: usize, table: &mut Table, stored: &mut Stored) {
    let Record {
        offset, user, kind, ..
    } = operation.record;
    let event: Event = (topic, offset);
    if matches!(kind, Kind::Row | Kind::Delete) {
        table.write(user, operation.stamp, event, kind);
    }
    stored.durable.insert(event);
}
