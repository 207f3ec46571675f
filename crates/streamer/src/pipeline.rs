//! Receive, stamp, batch, write, checkpoint: one task that owns every partition's state, so that nothing of it is shared.
//!
//! Data flows one way. What flows back is the completion of a micro-batch, and only a completed prefix becomes a
//! checkpoint, and only a checkpoint becomes a commit.

mod assignment;
mod saving;

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::FuturesUnordered;
use rdkafka::error::KafkaError;
use service::failpoint;
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::assign::{AssignError, Assigner};
use crate::batch::{End, Filling, Operation};
use crate::cassandra::sessions::Unusable;
use crate::clock::wall_micros;
use crate::kafka::source::{Chunk, Command, Record, Source};
use crate::lane::{Arrival, Lane};
use crate::metrics::StreamerMetrics;
use crate::pipeline::assignment::{Revoking, Started};
use crate::pipeline::saving::Saving;
use crate::progress::Records;
use crate::record::Change;
use crate::settle::{SettleError, Settled, Settler};
use crate::stopped::Stopped;

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

/// What other tasks may know: the partitions that are held, and how far each is checkpointed; none while its start is looked
/// for.
pub type Held = Arc<Mutex<BTreeMap<i32, Option<i64>>>>;

/// The pipeline of one topic and one table.
pub struct Pipeline {
    assigner: Arc<Assigner>,
    settler: Arc<Settler>,
    source: Source,
    metrics: Arc<StreamerMetrics>,
    held: Held,
    stopped: Arc<Stopped>,
    lanes: BTreeMap<i32, Lane>,
    filling: Filling,
    writing: FuturesUnordered<BoxFuture<'static, Result<Settled, SettleError>>>,
    saving: Option<Saving>,
    assigning: Option<BoxFuture<'static, Started>>,
    revoking: Option<Revoking>,
    next_batch: u64,
}

impl Pipeline {
    /// Nothing is assigned yet.
    pub fn new(
        assigner: Arc<Assigner>,
        settler: Arc<Settler>,
        source: Source,
        metrics: Arc<StreamerMetrics>,
        held: Held,
        stopped: Arc<Stopped>,
    ) -> Self {
        let filling = Filling::new(&assigner.settings.batch());
        Self {
            assigner,
            settler,
            source,
            metrics,
            held,
            stopped,
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
                .filter(|_| self.writing.len() < self.assigner.settings.batch.max_in_flight);
            let revoke_until = self.revoking.as_ref().map(|revoking| revoking.until);
            tokio::select! {
                Some(settled) = self.writing.next() => self.settled(&settled?)?,
                Some(saved) = maybe(&mut self.saving) => self.saved(saved)?,
                Some(started) = maybe(&mut self.assigning) => self.started(started?)?,
                notice = self.source.notices.recv() => self.notice(notice.ok_or(PipelineError::SourceEnded)?)?,
                chunk = self.source.chunks.recv(), if room => self.chunk(chunk.ok_or(PipelineError::SourceEnded)?)?,
                () = until(due) => {}
                () = until(revoke_until) => self.give_up_revoked(),
                _ = ticks.tick() => self.save(),
            }
            self.give_back_if_drained();
        }
    }

    fn has_room(&self) -> bool {
        !self.filling.is_full() || self.writing.len() < self.assigner.settings.batch.max_in_flight
    }

    fn flush_if_due(&mut self) {
        if self.writing.len() >= self.assigner.settings.batch.max_in_flight {
            return;
        }
        let Some(trigger) = self.filling.trigger(Instant::now(), self.writing.len()) else {
            return;
        };
        let batch = self.filling.flush(self.next_batch, trigger);
        self.next_batch += 1;
        for End {
            partition,
            position,
            records,
        } in &batch.ends
        {
            if let Some(lane) = self.lanes.get_mut(partition) {
                lane.progress().open(batch.id, *position, records.clone());
                if failpoint::inject("commit_before_write") {
                    lane.complete(batch.id, &[]);
                }
            }
        }
        self.metrics.batches.with_label_values(&[trigger.label()]).inc();
        let settler = Arc::clone(&self.settler);
        self.writing
            .push(async move { settler.settle(batch).await }.boxed());
    }

    fn chunk(&mut self, chunk: Chunk) -> Result<(), PipelineError> {
        match chunk {
            Chunk::Records { assignment, records } => self.records(assignment, records),
            Chunk::End {
                assignment,
                partition,
                next_offset,
            } => {
                self.end(assignment, partition, next_offset);
                Ok(())
            }
        }
    }

    fn records(&mut self, assignment: u64, records: Vec<Record>) -> Result<(), PipelineError> {
        let (now, micros) = (Instant::now(), wall_micros());
        self.metrics.records.inc_by(records.len() as u64);
        failpoint::crash("after_fetch");
        for record in records {
            let Record {
                partition,
                offset,
                timestamp,
                change,
                misplaced,
                raw,
            } = record;
            let arrival = Arrival {
                assignment,
                offset,
                timestamp: timestamp.saturating_mul(1_000),
                dead: matches!(change, Change::Refuse(_)),
            };
            // Of a partition that is no longer ours: its owner reads it.
            let lane = self.lanes.get_mut(&partition);
            let Some(taken) = lane.and_then(|lane| lane.take(arrival, micros)) else {
                continue;
            };
            self.count(misplaced, taken.capped);
            let operation = Operation {
                partition,
                offset,
                timestamp,
                stamp: if failpoint::inject("wall_clock_stamp") {
                    micros
                } else {
                    taken.stamp
                },
                change,
                raw,
            };
            self.filling.push(operation, taken.end, now);
        }
        self.tell_stopped()
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
        // Records that wait come before this end; it is seen again once they are written.
        if !self.filling.is_empty() {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return;
        };
        if let Some(end) = lane.skip_to(assignment, next_offset) {
            lane.progress().open(self.next_batch, end, Records::default());
            lane.complete(self.next_batch, &[]);
            self.next_batch += 1;
        }
    }

    fn settled(&mut self, settled: &Settled) -> Result<(), PipelineError> {
        for (partition, refused) in &settled.partitions {
            if let Some(lane) = self.lanes.get_mut(partition) {
                lane.complete(settled.batch, refused);
            }
        }
        self.tell_stopped()
    }

    /// Partitions that have just reached a limit of dead letters are read no further.
    fn tell_stopped(&mut self) -> Result<(), PipelineError> {
        let stopped = self.lanes.iter();
        let stopped = stopped.filter_map(|(partition, lane)| Some((*partition, lane.stopped()?)));
        let new = self.stopped.set(stopped.collect());
        if new.is_empty() {
            return Ok(());
        }
        self.order(Command::Stop(new))
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
                Some(settled) => self.settled(&settled?)?,
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
        let Source {
            commands,
            closed,
            chunks,
            notices,
        } = self.source;
        // The thread may have ended by itself. Without these channels it waits neither for room nor for a revocation
        // to be drained, which would hold the partitions back from their next owner for the whole of its deadline.
        drop((chunks, notices));
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
