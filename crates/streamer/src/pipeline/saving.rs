//! Writes the run ledger and then the checkpoints to Cassandra, and commits the offsets to the group afterwards.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use futures::future::FutureExt as _;
use service::failpoint;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::session::Session;
use crate::cassandra::writer::RowWriteError;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::start_offset_resolver::{RefusalCause, StartOffsetResolver, verify_read_back};
use crate::consumer::channels::ConsumerCommand;
use crate::consumer::rebalance::StartOffset;
use crate::ledger::segment::Segment;
use crate::pipeline::batch_writer::BatchWriteError;
use crate::pipeline::error::PipelineError;
use crate::pipeline::partition_state::PartitionState;
use crate::pipeline::{Pipeline, SaveError, Saved};

impl Pipeline {
    /// Starts to write the pending checkpoints, unless a write is in flight.
    pub(super) fn save(&mut self) {
        if self.saving.is_some() {
            return;
        }
        let (mut checkpoints, mut segments) = (Vec::new(), Vec::new());
        for state in self.partitions.values_mut() {
            if let Some(checkpoint) = state.pending_checkpoint() {
                segments.extend(state.pending_segments(&checkpoint));
                checkpoints.push(checkpoint);
            }
        }
        // An eager assignment comprises all partitions.
        let Some(assignment) = self.partitions.values().map(PartitionState::assignment).next() else {
            return;
        };
        if checkpoints.is_empty() {
            return;
        }
        failpoint::crash("before_checkpoint");
        let (now, interval) = (
            Instant::now(),
            self.resolver.settings.checkpoint.read_back_interval,
        );
        let unverified: Vec<_> = checkpoints
            .iter()
            .filter(|checkpoint| {
                self.partitions
                    .get(&checkpoint.partition)
                    .is_some_and(|state| state.is_read_back_due(now, interval))
            })
            .copied()
            .collect();
        let resolver = Arc::clone(&self.resolver);
        self.saving = Some(
            async move {
                let result = save(&resolver, &segments, &checkpoints, &unverified).await;
                Saved {
                    assignment,
                    checkpoints,
                    read_back: unverified.iter().map(|it| it.partition).collect(),
                    result,
                }
            }
            .boxed(),
        );
    }

    pub(super) fn saved(&mut self, saved: Saved) -> Result<(), PipelineError> {
        match saved.result {
            Ok(()) => {}
            Err(SaveError::Fatal(error)) => return Err(error),
            Err(SaveError::Transient(reason)) => {
                self.metrics.checkpoints.with_label_values(&["failed"]).inc();
                self.resolver.log_retry("write checkpoints", &reason);
                return Ok(());
            }
        }
        self.metrics
            .checkpoints
            .with_label_values(&["written"])
            .inc_by(saved.checkpoints.len() as u64);
        let mut commits = Vec::with_capacity(saved.checkpoints.len());
        for checkpoint in &saved.checkpoints {
            let state = self.partitions.get_mut(&checkpoint.partition);
            let read_back = saved.read_back.contains(&checkpoint.partition).then(Instant::now);
            if state.is_some_and(|state| state.saved(saved.assignment, checkpoint, read_back)) {
                commits.push(checkpoint.start_offset());
            }
        }
        self.publish(&commits);
        self.send(ConsumerCommand::Commit(commits))
    }

    pub(super) fn publish(&self, offsets: &[StartOffset]) {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        for StartOffset {
            partition, offset, ..
        } in offsets
        {
            assigned.insert(*partition, Some(*offset));
            self.metrics
                .checkpoint_offset
                .with_label_values(&[&partition.to_string()])
                .set(*offset);
        }
    }
}

/// Writes the segments before the checkpoints: a checkpoint whose records are not in the ledger would hide them for good.
async fn save(
    resolver: &StartOffsetResolver,
    segments: &[Segment],
    checkpoints: &[Checkpoint],
    unverified: &[Checkpoint],
) -> Result<(), SaveError> {
    let session = resolver
        .sessions
        .get()
        .await
        .map_err(|error| SaveError::Fatal(error.into()))?;
    let saved = async {
        write(resolver, &session, segments, checkpoints).await?;
        if unverified.is_empty() {
            return Ok(Vec::new());
        }
        resolver.checkpoints.load(&session).await
    };
    let read = match saved.await {
        Err(ErrorClass::Invalid(refusal)) => return Err(refused(resolver, &session, refusal).await),
        read => read?,
    };
    resolver.sessions.readiness().checkpoints_written();
    let unverified = verify_read_back(unverified, &read);
    unverified.map_err(|error| SaveError::Fatal(error.into()))
}

async fn write(
    resolver: &StartOffsetResolver,
    session: &Session,
    segments: &[Segment],
    checkpoints: &[Checkpoint],
) -> Result<(), ErrorClass> {
    let settings = &resolver.settings;
    if failpoint::inject("segment_after_checkpoint") {
        resolver.checkpoints.save(session, settings, checkpoints).await?;
        // Long enough for a kill.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        return resolver.ledger.save(session, segments).await;
    }
    resolver.ledger.save(session, segments).await?;
    resolver.checkpoints.save(session, settings, checkpoints).await
}

/// Returns the error of a refused request.
async fn refused(resolver: &StartOffsetResolver, session: &Session, refusal: String) -> SaveError {
    match resolver.refusal_cause(session, refusal).await {
        RefusalCause::Checkpoints(error) => SaveError::Fatal(PipelineError::Checkpoint(error)),
        RefusalCause::Rows(error) => SaveError::Fatal(PipelineError::Write(BatchWriteError::Rows(
            RowWriteError::Schema(error),
        ))),
        RefusalCause::Server(refusal) => SaveError::Transient(refusal),
    }
}

impl From<ErrorClass> for SaveError {
    fn from(error: ErrorClass) -> Self {
        match error {
            ErrorClass::Fatal(error) | ErrorClass::Invalid(error) => {
                Self::Fatal(PipelineError::Checkpoint(error))
            }
            error => Self::Transient(error.to_string()),
        }
    }
}
