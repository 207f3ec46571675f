//! Receive, stamp, batch, write, checkpoint: one task that owns every partition's state, so that nothing of it is shared.
//!
//! Data flows one way. What flows back is the completion of a micro-batch, and only a completed prefix becomes a
//! checkpoint, and only a checkpoint becomes a commit.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::FuturesUnordered;
use rdkafka::error::KafkaError;
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::assign::{AssignError, Assigner, compare};
use crate::batch::{Filling, Operation};
use crate::cassandra::fault::Fault;
use crate::cassandra::session::Unusable;
use crate::checkpoint::{Because, Checkpoint, Start};
use crate::clock::wall_micros;
use crate::kafka::rebalance::Notice;
use crate::kafka::source::{Chunk, Command, Record, Source};
use crate::lane::Lane;
use crate::metrics::StreamerMetrics;
use crate::record::Change;
use crate::settle::{SettleError, Settled, Settler};

/// Why the pipeline ended by itself.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// Records can't be made durable.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// A partition can't be started.
    #[error(transparent)]
    Assign(#[from] AssignError),
    /// Checkpoints can't be written.
    #[error("cassandra refuses checkpoints: {0}")]
    Checkpoint(String),
    /// No session can be had.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// Kafka refuses this consumer.
    #[error("kafka refuses this consumer")]
    Refused(#[source] KafkaError),
    /// The consumer is beyond repair; a new process is not.
    #[error("the kafka consumer is beyond repair")]
    Broken(#[source] KafkaError),
    /// The log is not where it was thought to be: start anew from the checkpoints.
    #[error("the log changed under the consumer")]
    Restart(#[source] KafkaError),
    /// The consumer's thread is gone.
    #[error("the kafka consumer's thread ended")]
    SourceEnded,
}

/// What other tasks may know: the partitions that are held, and how far each is checkpointed.
pub type Held = Arc<Mutex<BTreeMap<i32, i64>>>;

/// The pipeline of one topic and one table.
pub struct Pipeline {
    assigner: Arc<Assigner>,
    settler: Arc<Settler>,
    source: Source,
    metrics: Arc<StreamerMetrics>,
    held: Held,
    lanes: BTreeMap<i32, Lane>,
    filling: Filling,
    writing: FuturesUnordered<BoxFuture<'static, Result<Settled, SettleError>>>,
    saving: Option<BoxFuture<'static, Saved>>,
    assigning: Option<BoxFuture<'static, Started>>,
    revoking: Option<Revoking>,
    next_batch: u64,
}

/// The assignment with the starts of its partitions.
type Started = Result<(u64, Vec<Start>), AssignError>;

struct Revoking {
    partitions: Vec<i32>,
    drained: SyncSender<Vec<(i32, i64)>>,
    until: Instant,
}

struct Saved {
    checkpoints: Vec<Checkpoint>,
    result: Result<(), SaveError>,
}

enum SaveError {
    Passing(String),
    Final(PipelineError),
}

impl Pipeline {
    /// Nothing is assigned yet.
    pub fn new(
        assigner: Arc<Assigner>,
        settler: Arc<Settler>,
        source: Source,
        metrics: Arc<StreamerMetrics>,
        held: Held,
    ) -> Self {
        let filling = Filling::new(&assigner.settings.batch());
        Self {
            assigner,
            settler,
            source,
            metrics,
            held,
            lanes: BTreeMap::new(),
            filling,
            writing: FuturesUnordered::new(),
            saving: None,
            assigning: None,
            revoking: None,
            next_batch: 0,
        }
    }

    /// Works until `shutdown`, then finishes what is held, checkpoints it and leaves the group.
    ///
    /// # Errors
    /// [`PipelineError`]; what is not checkpointed then is done again by the next start.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), PipelineError> {
        let outcome = tokio::select! {
            outcome = self.work() => outcome.map(|never| match never {}),
            () = shutdown.cancelled() => Ok(()),
        };
        if outcome.is_ok() {
            self.finish().await?;
        }
        self.leave().await;
        outcome
    }

    async fn work(&mut self) -> Result<std::convert::Infallible, PipelineError> {
        let mut ticks = interval(self.assigner.settings.checkpoint.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.flush_if_due();
            let room = self.has_room();
            let due = self
                .filling
                .due()
                .filter(|_| self.writing.len() < self.assigner.settings.batch.in_flight);
            let revoke_until = self.revoking.as_ref().map(|revoking| revoking.until);
            tokio::select! {
                Some(settled) = self.writing.next() => self.settled(&settled?),
                Some(saved) = maybe(&mut self.saving) => self.saved(saved)?,
                Some(started) = maybe(&mut self.assigning) => self.started(started?)?,
                notice = self.source.notices.recv() => self.notice(notice.ok_or(PipelineError::SourceEnded)?)?,
                chunk = self.source.chunks.recv(), if room => self.chunk(chunk.ok_or(PipelineError::SourceEnded)?),
                () = until(due) => {}
                () = until(revoke_until) => self.give_up_revoked(),
                _ = ticks.tick() => self.save(),
            }
            self.give_back_if_drained();
        }
    }

    fn has_room(&self) -> bool {
        !self.filling.is_full() || self.writing.len() < self.assigner.settings.batch.in_flight
    }

    fn flush_if_due(&mut self) {
        if self.writing.len() >= self.assigner.settings.batch.in_flight {
            return;
        }
        let Some(trigger) = self.filling.trigger(Instant::now(), self.writing.len()) else {
            return;
        };
        let batch = self.filling.flush(self.next_batch, trigger);
        self.next_batch += 1;
        for (partition, end) in &batch.ends {
            if let Some(lane) = self.lanes.get_mut(partition) {
                lane.progress().open(batch.id, *end);
            }
        }
        self.metrics.batches.with_label_values(&[trigger.label()]).inc();
        let settler = Arc::clone(&self.settler);
        self.writing
            .push(async move { settler.settle(batch).await }.boxed());
    }

    fn chunk(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Records { assignment, records } => self.records(assignment, records),
            Chunk::End {
                assignment,
                partition,
                next_offset,
            } => self.end(assignment, partition, next_offset),
        }
    }

    fn records(&mut self, assignment: u64, records: Vec<Record>) {
        let (now, micros) = (Instant::now(), wall_micros());
        self.metrics.records.inc_by(records.len() as u64);
        for record in records {
            let Record {
                partition,
                offset,
                timestamp,
                change,
                misplaced,
                raw,
            } = record;
            // Of a partition that is no longer ours: its owner reads it.
            let lane = self
                .lanes
                .get_mut(&partition)
                .filter(|lane| lane.assignment() == assignment);
            let Some(lane) = lane else { continue };
            let dead = matches!(change, Change::Refuse(_));
            let taken = lane.take(offset, timestamp.saturating_mul(1_000), micros, dead);
            self.count(misplaced, taken.capped);
            let operation = Operation {
                partition,
                offset,
                timestamp,
                stamp: taken.stamp,
                change,
                raw,
            };
            self.filling.push(operation, taken.end, now);
        }
    }

    fn count(&self, misplaced: crate::record::Misplaced, capped: bool) {
        if misplaced.key {
            self.metrics.misplaced.with_label_values(&["key"]).inc();
        }
        if misplaced.partition {
            self.metrics.misplaced.with_label_values(&["partition"]).inc();
        }
        if capped {
            self.metrics.capped_timestamps.inc();
        }
    }

    /// A stretch without records is durable as soon as everything before it is.
    fn end(&mut self, assignment: u64, partition: i32, next_offset: i64) {
        let ours = self
            .lanes
            .get(&partition)
            .is_some_and(|lane| lane.assignment() == assignment);
        // Records that wait come before this end; it is seen again once they are written.
        if !ours || !self.filling.is_empty() {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return;
        };
        if let Some(end) = lane.skip_to(next_offset) {
            lane.progress().open(self.next_batch, end);
            lane.progress().complete(self.next_batch);
            self.next_batch += 1;
        }
    }

    fn settled(&mut self, settled: &Settled) {
        for partition in &settled.partitions {
            if let Some(lane) = self.lanes.get_mut(partition) {
                lane.progress().complete(settled.batch);
            }
        }
    }

    /// Starts writing the checkpoints that are due, unless the last write is still under way.
    fn save(&mut self) {
        if self.saving.is_some() {
            return;
        }
        let checkpoints: Vec<_> = self.lanes.values().filter_map(Lane::unsaved).collect();
        if checkpoints.is_empty() {
            return;
        }
        let unproven: Vec<_> = checkpoints
            .iter()
            .filter(|checkpoint| {
                self.lanes
                    .get(&checkpoint.partition)
                    .is_some_and(|lane| !lane.is_proven())
            })
            .copied()
            .collect();
        let assigner = Arc::clone(&self.assigner);
        self.saving = Some(
            async move {
                let result = save(&assigner, &checkpoints, &unproven).await;
                Saved { checkpoints, result }
            }
            .boxed(),
        );
    }

    fn saved(&mut self, saved: Saved) -> Result<(), PipelineError> {
        match saved.result {
            Ok(()) => {}
            Err(SaveError::Final(error)) => return Err(error),
            Err(SaveError::Passing(reason)) => {
                self.metrics.checkpoints.with_label_values(&["failed"]).inc();
                tracing::warn!(reason, "checkpoint not written, trying again");
                return Ok(());
            }
        }
        self.metrics
            .checkpoints
            .with_label_values(&["written"])
            .inc_by(saved.checkpoints.len() as u64);
        let mut commits = Vec::with_capacity(saved.checkpoints.len());
        for checkpoint in &saved.checkpoints {
            let Some(lane) = self.lanes.get_mut(&checkpoint.partition) else {
                continue;
            };
            lane.saved(checkpoint);
            lane.prove();
            commits.push((checkpoint.partition, checkpoint.position.next_offset));
        }
        self.publish(&commits);
        self.order(Command::Commit(commits))
    }

    fn publish(&self, offsets: &[(i32, i64)]) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, offset) in offsets {
            held.insert(*partition, *offset);
            self.metrics
                .checkpoint_offset
                .with_label_values(&[&partition.to_string()])
                .set(*offset);
        }
    }

    fn notice(&mut self, notice: Notice) -> Result<(), PipelineError> {
        match notice {
            Notice::Assigned {
                assignment,
                partitions,
            } => {
                self.metrics.rebalances.with_label_values(&["assigned"]).inc();
                tracing::info!(?partitions, "partitions assigned");
                self.drop_lanes();
                let assigner = Arc::clone(&self.assigner);
                self.assigning = Some(
                    async move {
                        assigner
                            .starts(partitions)
                            .await
                            .map(|starts| (assignment, starts))
                    }
                    .boxed(),
                );
            }
            Notice::Revoked { partitions, drained } => {
                self.metrics.rebalances.with_label_values(&["revoked"]).inc();
                tracing::info!(?partitions, "partitions revoked");
                self.assigning = None;
                for partition in &partitions {
                    self.filling.forget(*partition);
                }
                let until = Instant::now() + self.assigner.settings.kafka.revoke_deadline;
                self.revoking = Some(Revoking {
                    partitions,
                    drained,
                    until,
                });
            }
            Notice::Lost => {
                self.metrics.rebalances.with_label_values(&["lost"]).inc();
                tracing::warn!("partitions lost: another member may be writing already");
                self.drop_lanes();
            }
            Notice::Restart(error) => return Err(PipelineError::Restart(error)),
            Notice::Refused(error) => return Err(PipelineError::Refused(error)),
            Notice::Broken(error) => return Err(PipelineError::Broken(error)),
        }
        Ok(())
    }

    fn started(&mut self, (assignment, starts): (u64, Vec<Start>)) -> Result<(), PipelineError> {
        for start in &starts {
            let Checkpoint {
                partition, position, ..
            } = start.checkpoint;
            let because = start.because;
            match because {
                Because::Recreated | Because::OutOfRange(_) => {
                    tracing::warn!(
                        partition,
                        offset = position.next_offset,
                        ?because,
                        "partition starts elsewhere"
                    );
                }
                _ => tracing::info!(
                    partition,
                    offset = position.next_offset,
                    ?because,
                    "partition starts"
                ),
            }
            self.lanes.insert(
                partition,
                Lane::resume(start, assignment, because != Because::Checkpoint),
            );
        }
        let offsets: Vec<_> = starts
            .iter()
            .map(|start| (start.checkpoint.partition, start.checkpoint.position.next_offset))
            .collect();
        self.metrics
            .assigned
            .set(i64::try_from(offsets.len()).unwrap_or(i64::MAX));
        self.publish(&offsets);
        self.order(Command::Start { assignment, offsets })
    }

    /// Once everything of the revoked partitions is durable and checkpointed, they are given back.
    fn give_back_if_drained(&mut self) {
        let Some(revoking) = &self.revoking else { return };
        let mut offsets = Vec::new();
        for partition in &revoking.partitions {
            let Some(lane) = self.lanes.get_mut(partition) else {
                continue;
            };
            if !lane.progress().is_settled() {
                return;
            }
            if lane.unsaved().is_some() {
                self.save();
                return;
            }
            offsets.push((*partition, lane.progress().durable().next_offset));
        }
        if let Some(revoking) = self.revoking.take() {
            // After the deadline nobody waits for it.
            let _ = revoking.drained.try_send(offsets);
            self.drop_lanes();
        }
    }

    fn give_up_revoked(&mut self) {
        if self.revoking.take().is_some() {
            self.drop_lanes();
        }
    }

    /// From here on no completion of theirs counts. An assignment is always the whole of what is held (eager).
    fn drop_lanes(&mut self) {
        let partitions: Vec<_> = self.lanes.keys().copied().collect();
        for partition in partitions {
            self.filling.forget(partition);
            let label = partition.to_string();
            for gauge in [
                &self.metrics.checkpoint_offset,
                &self.metrics.lag,
                &self.metrics.end_offset,
            ] {
                // It may never have been set.
                let _ = gauge.remove_label_values(&[&label]);
            }
        }
        self.lanes.clear();
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.assigning = None;
        self.revoking = None;
        self.metrics.assigned.set(0);
    }

    /// What is held becomes durable and is checkpointed. Ends with the grace time of the process at the latest.
    async fn finish(&mut self) -> Result<(), PipelineError> {
        self.order(Command::Pause)?;
        loop {
            if let Some(saving) = self.saving.take() {
                let saved = saving.await;
                self.saved(saved)?;
            }
            self.flush_if_due();
            match self.writing.next().await {
                Some(settled) => self.settled(&settled?),
                None if self.filling.is_empty() => {
                    self.save();
                    if self.saving.is_none() {
                        return Ok(());
                    }
                }
                None => {}
            }
        }
    }

    /// Leaves the group, so that others take over at once. A consumer that does not end in time is left behind.
    async fn leave(self) {
        let Source { commands, closed, .. } = self.source;
        // The thread may have ended by itself; dropping the other channels ends it if it is waiting for room.
        let _ = commands.send(Command::Close);
        if tokio::time::timeout(LEAVE, closed).await.is_err() {
            tracing::warn!("the kafka consumer did not close in time");
        }
    }

    fn order(&self, command: Command) -> Result<(), PipelineError> {
        self.source
            .commands
            .send(command)
            .map_err(|_| PipelineError::SourceEnded)
    }
}

/// Closing a consumer can hang for ever.
const LEAVE: Duration = Duration::from_secs(5);

async fn save(
    assigner: &Assigner,
    checkpoints: &[Checkpoint],
    unproven: &[Checkpoint],
) -> Result<(), SaveError> {
    let live = assigner
        .sessions
        .live()
        .await
        .map_err(|error| SaveError::Final(error.into()))?;
    assigner
        .checkpoints
        .save(&live, &assigner.settings, checkpoints)
        .await?;
    if !unproven.is_empty() {
        let read = assigner.checkpoints.load(&live).await?;
        compare(unproven, &read).map_err(|error| SaveError::Final(error.into()))?;
    }
    Ok(())
}

impl From<Fault> for SaveError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Fatal(error) | Fault::Invalid(error) => Self::Final(PipelineError::Checkpoint(error)),
            fault => Self::Passing(format!("{fault:?}")),
        }
    }
}

/// The outcome of the future in `slot`, which it leaves; never, while there is none.
async fn maybe<T>(slot: &mut Option<BoxFuture<'static, T>>) -> Option<T> {
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
