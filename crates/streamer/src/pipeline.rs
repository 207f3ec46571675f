//! Receive, stamp, batch, write, checkpoint: one task owns the state of all partitions, so nothing is shared.
//!
//! Data flows one way. Only the completion of a micro-batch flows back. Only a completed prefix becomes a checkpoint,
//! and only a checkpoint becomes a commit.

pub mod batch_builder;
pub mod batch_writer;
pub mod consumed_record;
pub mod error;
pub mod offset_tracker;
pub mod partition_state;
pub mod position;
pub mod raw_record;
pub mod remaining_ttl;
pub mod row;
pub mod write_timestamp;

mod assignment;
mod batch_trace;
mod saving;

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use service::{Backoff, failpoint};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::start_offset_resolver::{ResolveError, ResolvedStarts, StartOffsetResolver};
use crate::consumer::channels::{Chunk, ConsumerCommand, ConsumerHandle, DecodedRecord};
use crate::consumer::rebalance::StartOffset;
use crate::dead_letters::halted_partitions::HaltedPartitions;
use crate::ledger::entries::MAX_ENTRIES;
use crate::ledger::run_headers::{FetchedAt, RunHeaders};
use crate::metrics::StreamerMetrics;
use crate::pipeline::batch_builder::{BatchBuilder, BatchPartition, Operation};
use crate::pipeline::batch_writer::{BatchWriteError, BatchWriter, WrittenBatch, WrittenPartition};
use crate::pipeline::consumed_record::{Change, Irregularities};
use crate::pipeline::error::PipelineError;
use crate::pipeline::offset_tracker::BatchRecords;
use crate::pipeline::partition_state::{PartitionState, ReceivedRecord};
use crate::pipeline::write_timestamp::wall_micros;

/// The assigned partitions and their checkpointed offsets, for other tasks. `None` until the start offset is
/// resolved.
pub type AssignedPartitions = Arc<Mutex<BTreeMap<i32, Option<i64>>>>;

/// An assignment and the starts of its partitions.
type Started = Result<(u64, ResolvedStarts), ResolveError>;

/// A revocation whose partitions are draining.
struct Revoking {
    partitions: Vec<i32>,
    /// Takes the durable offsets of the drained partitions.
    drained: SyncSender<Vec<(i32, i64)>>,
    until: Instant,
}

/// A checkpoint write in flight.
type Saving = BoxFuture<'static, Saved>;

/// The result of a checkpoint write.
struct Saved {
    /// The assignment under which the write began.
    assignment: u64,
    checkpoints: Vec<Checkpoint>,
    /// The partitions whose checkpoints were read back.
    read_back: Vec<i32>,
    result: Result<(), SaveError>,
}

enum SaveError {
    Transient(String),
    Fatal(PipelineError),
}

/// The pipeline of one topic and one table.
pub struct Pipeline {
    resolver: Arc<StartOffsetResolver>,
    batch_writer: Arc<BatchWriter>,
    consumer: ConsumerHandle,
    metrics: Arc<StreamerMetrics>,
    assigned: AssignedPartitions,
    halted: Arc<HaltedPartitions>,
    partitions: BTreeMap<i32, PartitionState>,
    batch_builder: BatchBuilder,
    /// The micro-batches in flight, each a task, so that they are encoded on all cores.
    writing: JoinSet<Result<WrittenBatch, BatchWriteError>>,
    /// Tracks these tasks beyond the life of the pipeline.
    tasks: TaskTracker,
    saving: Option<Saving>,
    assigning: Option<BoxFuture<'static, Started>>,
    revoking: Option<Revoking>,
    next_batch: u64,
}

impl Pipeline {
    /// Creates a pipeline without partitions. `tasks` are what may still write after it was dropped.
    pub fn new(
        resolver: Arc<StartOffsetResolver>,
        batch_writer: Arc<BatchWriter>,
        consumer: ConsumerHandle,
        metrics: Arc<StreamerMetrics>,
        assigned: AssignedPartitions,
        halted: Arc<HaltedPartitions>,
        tasks: TaskTracker,
    ) -> Self {
        let batch_builder = BatchBuilder::new(&resolver.settings.batch());
        Self {
            resolver,
            batch_writer,
            consumer,
            metrics,
            assigned,
            halted,
            partitions: BTreeMap::new(),
            batch_builder,
            writing: JoinSet::new(),
            tasks,
            saving: None,
            assigning: None,
            revoking: None,
            next_batch: 0,
        }
    }

    /// Runs until `shutdown`, then drains the pipeline, writes the checkpoints and leaves the group.
    ///
    /// # Errors
    /// [`PipelineError`]. Records after the checkpoints are written again by the next start.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), PipelineError> {
        let outcome = tokio::select! {
            outcome = self.work() => outcome.map(|never| match never {}),
            () = shutdown.cancelled() => Ok(()),
        };
        if outcome.is_ok() {
            self.finish().await?;
        }
        // Nothing is written for partitions that the group has reassigned.
        self.writing.shutdown().await;
        self.close().await;
        outcome
    }

    async fn work(&mut self) -> Result<std::convert::Infallible, PipelineError> {
        let mut ticks = interval(self.resolver.settings.checkpoint.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.flush_if_due();
            let has_capacity = self.has_capacity();
            let due = self
                .batch_builder
                .due()
                .filter(|_| self.writing.len() < self.resolver.settings.batch.max_in_flight);
            let revoke_until = self.revoking.as_ref().map(|revoking| revoking.until);
            tokio::select! {
                Some(written) = self.writing.join_next() => self.written(returned(written)?)?,
                Some(saved) = poll_slot(&mut self.saving) => self.saved(saved)?,
                Some(started) = poll_slot(&mut self.assigning) => self.started(started?)?,
                event = self.consumer.events.recv() => self.rebalanced(event.ok_or(PipelineError::ConsumerEnded)?)?,
                chunk = self.consumer.chunks.recv(), if has_capacity => self.chunk(chunk.ok_or(PipelineError::ConsumerEnded)?)?,
                () = until(due) => {}
                () = until(revoke_until) => self.abandon_revoked(),
                _ = ticks.tick() => self.save(),
            }
            self.release_if_drained();
        }
    }

    fn has_capacity(&mut self) -> bool {
        let can_batch =
            !self.batch_builder.is_full() || self.writing.len() < self.resolver.settings.batch.max_in_flight;
        can_batch && self.entries() < MAX_ENTRIES
    }

    fn flush_if_due(&mut self) {
        if self.writing.len() >= self.resolver.settings.batch.max_in_flight {
            return;
        }
        let Some(trigger) = self.batch_builder.trigger(Instant::now(), self.writing.len()) else {
            return;
        };
        let mut batch = self.batch_builder.flush(self.next_batch, trigger);
        self.next_batch += 1;
        for BatchPartition {
            partition,
            position,
            records,
        } in &mut batch.partitions
        {
            if let Some(state) = self.partitions.get_mut(partition) {
                // Only the tracker needs them.
                state.offsets().open(batch.id, *position, std::mem::take(records));
                if failpoint::inject("commit_before_write") {
                    state.complete(batch.id, &[], Vec::new());
                }
            }
        }
        self.metrics.batches.with_label_values(&[trigger.label()]).inc();
        let batch_writer = Arc::clone(&self.batch_writer);
        let write = async move { batch_writer.write(batch).await };
        self.writing.spawn(self.tasks.track_future(write));
    }

    fn chunk(&mut self, chunk: Chunk) -> Result<(), PipelineError> {
        let Chunk { assignment, records } = chunk;
        let (now, micros) = (Instant::now(), wall_micros());
        self.metrics.records.inc_by(records.len() as u64);
        failpoint::crash("after_fetch");
        for record in records {
            let DecodedRecord {
                partition,
                offset,
                leader_epoch,
                timestamp,
                change,
                irregularities,
                run,
                raw,
            } = record;
            let received = ReceivedRecord {
                assignment,
                offset,
                leader_epoch,
                timestamp: timestamp.saturating_mul(1_000),
                dead: matches!(change, Change::Reject(_)),
            };
            // Records of a revoked partition belong to its next owner.
            let state = self.partitions.get_mut(&partition);
            let Some(stamped) = state.and_then(|state| state.receive(received, micros)) else {
                continue;
            };
            self.count(irregularities, stamped.capped);
            let fetched_at = self.fetched_at(&run, stamped.is_new);
            let operation = Operation {
                partition,
                offset,
                timestamp,
                write_timestamp: if failpoint::inject("wall_clock_stamp") {
                    micros
                } else {
                    stamped.write_timestamp
                },
                change,
                run: run.number,
                fetched_at,
                raw,
            };
            self.batch_builder.push(operation, stamped.end, now);
        }
        self.halt_partitions()
    }

    /// Returns when a record was fetched, if its latency is measured: not in a replay.
    fn fetched_at(&self, run: &RunHeaders, is_new: bool) -> Option<i64> {
        if run.number.is_none() {
            self.metrics.without_run.inc();
        }
        match run.fetched_at {
            FetchedAt::Micros(micros) if is_new => Some(micros),
            FetchedAt::Invalid => {
                self.metrics.invalid_fetched_at.inc();
                None
            }
            FetchedAt::Micros(_) | FetchedAt::Absent => None,
        }
    }

    fn count(&self, irregularities: Irregularities, capped: bool) {
        if irregularities.key {
            self.metrics.mismatch.with_label_values(&["key"]).inc();
        }
        if irregularities.partition {
            self.metrics.mismatch.with_label_values(&["partition"]).inc();
        }
        if irregularities.unknown_fields {
            self.metrics.unknown_fields.inc();
        }
        if capped {
            self.metrics.capped_timestamps.inc();
        }
    }

    /// The range from `next_offset` to `end` has no records. It is durable once everything before it is.
    fn eof(&mut self, assignment: u64, next_offset: i64, end: StartOffset) {
        let partition = end.partition;
        let Some(state) = self.partitions.get_mut(&partition) else {
            return;
        };
        // Records before the range may still be on their way. The end is reported again.
        if state.next_offset() != next_offset {
            return;
        }
        if let Some(end) = state.skip_to(assignment, end) {
            // Pending records come before this end, and prove it when they are written.
            if self.batch_builder.extend(partition, end) {
                return;
            }
            state
                .offsets()
                .open(self.next_batch, end, BatchRecords::default());
            state.complete(self.next_batch, &[], Vec::new());
            self.next_batch += 1;
        }
    }

    fn written(&mut self, written: WrittenBatch) -> Result<(), PipelineError> {
        // First, so that the partitions' ranges stay open.
        for refused in written.refused {
            if let Some(state) = self.partitions.get_mut(&refused.partition) {
                state.halt_refused(written.batch, refused);
            }
        }
        for WrittenPartition {
            partition,
            rejected,
            durable_at,
        } in written.partitions
        {
            if let Some(state) = self.partitions.get_mut(&partition) {
                state.complete(written.batch, &rejected, durable_at);
            }
        }
        if 2 * self.entries() >= MAX_ENTRIES {
            self.save();
        }
        self.halt_partitions()
    }

    /// The entries of the run ledger that wait for a checkpoint.
    fn entries(&mut self) -> usize {
        let partitions = self.partitions.values_mut();
        partitions.map(|state| state.offsets().entries().len()).sum()
    }

    /// Stops reading the partitions that have just reached a limit of dead letters.
    fn halt_partitions(&mut self) -> Result<(), PipelineError> {
        let halted = self.partitions.iter();
        let halted = halted.filter_map(|(partition, state)| Some((*partition, state.halted()?)));
        let new = self.halted.set(halted.collect());
        if new.is_empty() {
            return Ok(());
        }
        self.send(ConsumerCommand::Halt(new))
    }

    /// Writes and checkpoints all pending records. The process's grace time limits the wait.
    async fn finish(&mut self) -> Result<(), PipelineError> {
        self.send(ConsumerCommand::Pause)?;
        let mut delays = Backoff::default().delays();
        loop {
            if let Some(saving) = self.saving.take() {
                let saved = saving.await;
                let failed = matches!(saved.result, Err(SaveError::Transient(_)));
                self.saved(saved)?;
                if let Some(delay) = delays.next().filter(|_| failed) {
                    sleep(delay).await;
                }
            }
            self.flush_if_due();
            match self.writing.join_next().await {
                Some(written) => self.written(returned(written)?)?,
                None if self.batch_builder.is_empty() => {
                    self.save();
                    if self.saving.is_none() {
                        return Ok(());
                    }
                }
                None => {}
            }
        }
    }

    /// Leaves the group, so that other members take over at once. A consumer that does not close in time is
    /// abandoned.
    async fn close(self) {
        let ConsumerHandle {
            commands,
            closed,
            chunks,
            events,
        } = self.consumer;
        // The thread may have ended. With these channels closed it waits neither for capacity nor for a drained
        // revocation, which would delay the next owner by `kafka.revoke_timeout`.
        drop((chunks, events));
        let _ = commands.send(ConsumerCommand::Close);
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!("the kafka consumer did not close in time");
        }
    }

    fn send(&self, command: ConsumerCommand) -> Result<(), PipelineError> {
        self.consumer
            .commands
            .send(command)
            .map_err(|_| PipelineError::ConsumerEnded)
    }
}

/// Closing a consumer may block forever.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns what the task of a micro-batch returned. A panic continues here and ends the process.
fn returned<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Awaits and clears the future in `slot`. Never resolves while there is none.
async fn poll_slot<T>(slot: &mut Option<BoxFuture<'static, T>>) -> Option<T> {
    match slot {
        Some(future) => {
            let value = future.await;
            *slot = None;
            Some(value)
        }
        None => pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "in a micro-batch")]
    async fn panic_in_a_micro_batch_ends_the_pipeline() {
        let mut writing: JoinSet<()> = JoinSet::new();
        writing.spawn(async { panic!("in a micro-batch") });
        returned(writing.join_next().await.expect("a task"));
    }
}
