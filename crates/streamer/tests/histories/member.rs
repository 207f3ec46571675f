//! One member of the group, as the pipeline is one: it reads, gathers, writes several micro-batches at once, and saves the
//! durable prefix. What it has not saved dies with it; what it has written stays.

use streamer::checkpoint::{Checkpoint, Start};
use streamer::lane::Lane;
use streamer::progress::{Position, Records};
use streamer::tally::Limits;

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

pub(crate) struct Member {
    lane: Lane,
    topic: usize,
    table: uuid::Uuid,
    epoch: i64,
    /// The next offset to read.
    next: i64,
    filling: Vec<Operation>,
    end: Option<Position>,
    writing: Vec<Batch>,
    saving: Option<Checkpoint>,
    batches: u64,
    /// How far its clock is wrong.
    skew: i64,
}

impl Member {
    pub(crate) fn new(start: &Start, topic: &Topic, limits: Limits, skew: i64) -> Self {
        Self {
            lane: Lane::resume(start, 1, true, limits),
            topic: topic.number,
            table: start.checkpoint.table_id,
            epoch: start.checkpoint.epoch,
            next: start.checkpoint.position.next_offset,
            filling: Vec::new(),
            end: None,
            writing: Vec::new(),
            saving: None,
            batches: 0,
            skew,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lane.stopped().is_some()
    }

    pub(crate) fn writes_to(&self, topic: &Topic, table: &Table) -> bool {
        self.topic == topic.number && self.table == table.id
    }

    /// Reads up to `most` records; at the end it moves over what is no record.
    pub(crate) fn read(
        &mut self,
        topic: &Topic,
        stored: &mut Stored,
        most: usize,
        now: i64,
    ) -> Result<(), String> {
        for record in topic.from(self.next).iter().take(most) {
            if self.is_stopped() {
                return Ok(());
            }
            let dead = record.kind == Kind::Garbage;
            let taken = self
                .lane
                .take(record.offset, record.timestamp, now + self.skew, dead);
            if taken.end.next_offset != record.offset + 1 {
                return Err(format!(
                    "after offset {} comes {}",
                    record.offset, taken.end.next_offset
                ));
            }
            stored.stamped((self.topic, record.offset), self.epoch, taken.stamp)?;
            self.next = record.offset + 1;
            self.end = Some(taken.end);
            self.filling.push(Operation {
                record: *record,
                stamp: taken.stamp,
            });
        }
        let at_end = topic.from(self.next).is_empty() && self.filling.is_empty() && !self.is_stopped();
        if at_end && let Some(end) = self.lane.skip_to(topic.end) {
            self.next = topic.end;
            self.batches += 1;
            self.lane.progress().open(self.batches, end, Records::default());
            self.lane.complete(self.batches, &[]);
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) {
        let Some(end) = self.end.take() else { return };
        let operations = std::mem::take(&mut self.filling);
        let dead = (0..)
            .zip(&operations)
            .filter(|(_, operation)| operation.record.kind == Kind::Garbage);
        let records = Records {
            count: operations.len(),
            dead: dead.map(|(place, _)| place).collect(),
        };
        self.batches += 1;
        self.lane.progress().open(self.batches, end, records);
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
            self.saving = self.lane.unsaved();
        }
    }

    /// The write of the checkpoint lands, or is lost.
    pub(crate) fn land(&mut self, stored: &mut Stored, lost: bool) -> Result<(), String> {
        let Some(checkpoint) = self.saving.take().filter(|_| !lost) else {
            return Ok(());
        };
        stored.store(checkpoint)?;
        self.lane.saved(&checkpoint);
        Ok(())
    }

    /// Revoked: what is not being written is dropped, the rest is finished and saved.
    pub(crate) fn drain(
        &mut self,
        table: &mut Table,
        stored: &mut Stored,
        chance: &mut Chance,
    ) -> Result<(), String> {
        self.filling.clear();
        self.end = None;
        while !self.writing.is_empty() {
            self.complete(table, stored, chance);
        }
        self.land(stored, false)?;
        self.save();
        self.land(stored, false)
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
