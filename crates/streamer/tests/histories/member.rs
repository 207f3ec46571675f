//! A member of the group with the pipeline's steps: read into a channel, receive, batch, write several micro-batches in
//! parallel, and checkpoint the durable prefix.
//!
//! A crash loses what is not checkpointed, except the written rows. A member may lose the partition and be assigned it
//! again. Then the channel still contains records of the earlier assignment.

use std::collections::VecDeque;
use std::time::Instant;

use streamer::checkpoint::{Checkpoint, ResolvedStart};
use streamer::consumer::rebalance::StartOffset;
use streamer::dead_letters::limits::DeadLetterLimits;
use streamer::pipeline::offset_tracker::BatchRecords;
use streamer::pipeline::partition_state::{PartitionState, ReceivedRecord};
use streamer::pipeline::position::Position;
use testkit::seeded_random::SeededRandom;

use crate::server_model::{DurableState, Kind, Record, RecordId, Table, Topic};

/// A received record with its write timestamp.
#[derive(Clone, Copy)]
struct Operation {
    record: Record,
    write_timestamp: i64,
}

struct Batch {
    id: u64,
    operations: Vec<Operation>,
}

/// Records or an end offset from the consumer, with the assignment under which they were read.
enum ChannelItem {
    Records(u64, Vec<Record>),
    End(u64, i64),
}

/// A checkpoint that is being written, with the assignment under which the write began.
type Saving = (u64, Checkpoint);

const CHANNEL_CAPACITY: usize = 4;

pub(crate) struct Member {
    partition: PartitionState,
    assignment: u64,
    topic: usize,
    table: uuid::Uuid,
    epoch: i64,
    /// The next offset to read.
    next: i64,
    channel: VecDeque<ChannelItem>,
    building: Vec<Operation>,
    end: Option<Position>,
    writing: Vec<Batch>,
    saving: Option<Saving>,
    batches: u64,
    /// Offset of the member's clock, in microseconds.
    skew: i64,
}

impl Member {
    pub(crate) fn new(start: &ResolvedStart, topic: &Topic, limits: DeadLetterLimits, skew: i64) -> Self {
        Self {
            partition: PartitionState::new(start, 1, Some(Instant::now()), limits),
            assignment: 1,
            topic: topic.number,
            table: start.checkpoint.table_id,
            epoch: start.checkpoint.epoch,
            next: start.checkpoint.position.next_offset,
            channel: VecDeque::new(),
            building: Vec::new(),
            end: None,
            writing: Vec::new(),
            saving: None,
            batches: 0,
            skew,
        }
    }

    /// Assigns the partition to the same process again. Its writes in flight and its channel remain.
    pub(crate) fn reassign(self, start: &ResolvedStart, limits: DeadLetterLimits) -> Self {
        let assignment = self.assignment + 1;
        Self {
            partition: PartitionState::new(start, assignment, Some(Instant::now()), limits),
            assignment,
            epoch: start.checkpoint.epoch,
            next: start.checkpoint.position.next_offset,
            building: Vec::new(),
            end: None,
            ..self
        }
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.partition.halted().is_some()
    }

    pub(crate) fn writes_to(&self, topic: &Topic, table: &Table) -> bool {
        self.topic == topic.number && self.table == table.id
    }

    /// Reads up to `max` records into the channel, unless it is full. At the end of the log, it sends the end offset.
    pub(crate) fn read(&mut self, topic: &Topic, max: usize) {
        if self.channel.len() >= CHANNEL_CAPACITY {
            return;
        }
        let records: Vec<_> = topic.from(self.next).iter().take(max).copied().collect();
        let chunk = match records.last() {
            Some(last) => {
                self.next = last.offset + 1;
                ChannelItem::Records(self.assignment, records)
            }
            None => {
                self.next = topic.end;
                ChannelItem::End(self.assignment, topic.end)
            }
        };
        self.channel.push_back(chunk);
    }

    /// Receives the next item of the channel.
    pub(crate) fn receive(&mut self, durable_state: &mut DurableState, now: i64) -> Result<(), String> {
        match self.channel.pop_front() {
            Some(ChannelItem::Records(assignment, records)) => {
                for record in records {
                    self.take(assignment, record, durable_state, now)?;
                }
            }
            Some(ChannelItem::End(assignment, offset)) if self.building.is_empty() => {
                let end = StartOffset {
                    partition: 0,
                    offset,
                    leader_epoch: None,
                };
                if let Some(end) = self.partition.skip_to(assignment, end) {
                    self.batches += 1;
                    self.partition
                        .offsets()
                        .open(self.batches, end, BatchRecords::default());
                    self.partition.complete(self.batches, &[], Vec::new());
                }
            }
            Some(ChannelItem::End(..)) | None => {}
        }
        Ok(())
    }

    fn take(
        &mut self,
        assignment: u64,
        record: Record,
        durable_state: &mut DurableState,
        now: i64,
    ) -> Result<(), String> {
        let received = ReceivedRecord {
            assignment,
            offset: record.offset,
            leader_epoch: None,
            timestamp: record.timestamp,
            dead: record.kind == Kind::Invalid,
        };
        let Some(stamped) = self.partition.receive(received, now + self.skew) else {
            return Ok(());
        };
        if stamped.end.next_offset != record.offset + 1 {
            return Err(format!(
                "the offset after {} is {}",
                record.offset, stamped.end.next_offset
            ));
        }
        durable_state.check_write_timestamp(
            (self.topic, record.offset),
            self.epoch,
            stamped.write_timestamp,
        )?;
        self.end = Some(stamped.end);
        self.building.push(Operation {
            record,
            write_timestamp: stamped.write_timestamp,
        });
        Ok(())
    }

    pub(crate) fn flush(&mut self) {
        let Some(end) = self.end.take() else { return };
        let operations = std::mem::take(&mut self.building);
        let dead = (0..)
            .zip(&operations)
            .filter(|(_, operation)| operation.record.kind == Kind::Invalid);
        let records = BatchRecords {
            count: operations.len(),
            dead: dead.map(|(index, _)| index).collect(),
            of_runs: Vec::new(),
        };
        self.batches += 1;
        self.partition.offsets().open(self.batches, end, records);
        self.writing.push(Batch {
            id: self.batches,
            operations,
        });
    }

    /// Makes one record of a batch in flight durable.
    pub(crate) fn write_one(
        &mut self,
        table: &mut Table,
        durable_state: &mut DurableState,
        random: &mut SeededRandom,
    ) {
        if self.writing.is_empty() {
            return;
        }
        let batch = random.below(self.writing.len());
        let index = random.below(self.writing[batch].operations.len());
        apply(
            &self.writing[batch].operations[index],
            self.topic,
            table,
            durable_state,
        );
    }

    /// Completes a random micro-batch in flight.
    pub(crate) fn complete(
        &mut self,
        table: &mut Table,
        durable_state: &mut DurableState,
        random: &mut SeededRandom,
    ) {
        if self.writing.is_empty() {
            return;
        }
        let batch = self.writing.swap_remove(random.below(self.writing.len()));
        for operation in &batch.operations {
            apply(operation, self.topic, table, durable_state);
        }
        let rejected = (0..)
            .zip(&batch.operations)
            .filter(|(_, operation)| operation.record.kind == Kind::Rejected);
        let rejected: Vec<_> = rejected.map(|(index, _)| index).collect();
        self.partition.complete(batch.id, &rejected, Vec::new());
    }

    /// Starts the write of a checkpoint, unless one is in flight.
    pub(crate) fn save(&mut self) {
        if self.saving.is_none() {
            self.saving = self
                .partition
                .pending_checkpoint()
                .map(|checkpoint| (self.assignment, checkpoint));
        }
    }

    /// Finishes the write of the checkpoint, or loses it.
    pub(crate) fn finish_save(&mut self, durable_state: &mut DurableState, lost: bool) -> Result<(), String> {
        let Some((assignment, checkpoint)) = self.saving.take().filter(|_| !lost) else {
            return Ok(());
        };
        durable_state.write_checkpoint(checkpoint)?;
        self.partition.saved(assignment, &checkpoint, None);
        Ok(())
    }

    /// Drains the member after a revocation. The open batch is dropped, and writes in flight complete and are checkpointed.
    /// Meanwhile the channel still returns records.
    pub(crate) fn drain(
        &mut self,
        table: &mut Table,
        durable_state: &mut DurableState,
        random: &mut SeededRandom,
        now: i64,
    ) -> Result<(), String> {
        self.partition.start_draining();
        self.building.clear();
        self.end = None;
        while !self.partition.is_drained() || self.partition.pending_checkpoint().is_some() {
            match random.below(6) {
                0 => self.receive(durable_state, now)?,
                1 => self.flush(),
                2 | 3 => self.complete(table, durable_state, random),
                4 => self.save(),
                _ => self.finish_save(durable_state, false)?,
            }
        }
        Ok(())
    }
}

fn apply(operation: &Operation, topic: usize, table: &mut Table, durable_state: &mut DurableState) {
    let Record {
        offset, user, kind, ..
    } = operation.record;
    let record_id: RecordId = (topic, offset);
    if matches!(kind, Kind::Row | Kind::Delete) {
        table.write(user, operation.write_timestamp, record_id, kind);
    }
    durable_state.durable.insert(record_id);
}
