//! From the durable prefix to the checkpoint in Cassandra, and from there to the group's commit.

use std::sync::{Arc, PoisonError};

use futures::future::{BoxFuture, FutureExt as _};
use service::failpoint;

use crate::assign::{Assigner, compare};
use crate::cassandra::fault::Fault;
use crate::cassandra::schema::{self, SchemaError};
use crate::cassandra::session::Live;
use crate::cassandra::writer::WriteError;
use crate::checkpoint::Checkpoint;
use crate::kafka::source::Command;
use crate::lane::Lane;
use crate::pipeline::{Pipeline, PipelineError};
use crate::settle::SettleError;

/// A write of checkpoints that is under way.
pub(super) type Saving = BoxFuture<'static, Saved>;

/// What came of it.
pub(super) struct Saved {
    /// Under which it began.
    assignment: u64,
    checkpoints: Vec<Checkpoint>,
    result: Result<(), SaveError>,
}

pub(super) enum SaveError {
    Passing(String),
    Final(PipelineError),
}

impl Pipeline {
    /// Starts writing the checkpoints that are due, unless the last write is still under way.
    pub(super) fn save(&mut self) {
        if self.saving.is_some() {
            return;
        }
        let checkpoints: Vec<_> = self.lanes.values().filter_map(Lane::unsaved).collect();
        // All lanes are of one assignment (eager).
        let Some(assignment) = self.lanes.values().map(Lane::assignment).next() else {
            return;
        };
        if checkpoints.is_empty() {
            return;
        }
        failpoint::crash("before_checkpoint");
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
                Saved {
                    assignment,
                    checkpoints,
                    result,
                }
            }
            .boxed(),
        );
    }

    pub(super) fn saved(&mut self, saved: Saved) -> Result<(), PipelineError> {
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
            let lane = self.lanes.get_mut(&checkpoint.partition);
            if lane.is_some_and(|lane| lane.saved(saved.assignment, checkpoint)) {
                commits.push((checkpoint.partition, checkpoint.position.next_offset));
            }
        }
        self.publish(&commits);
        self.order(Command::Commit(commits))
    }

    pub(super) fn publish(&self, offsets: &[(i32, i64)]) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, offset) in offsets {
            held.insert(*partition, Some(*offset));
            self.metrics
                .checkpoint_offset
                .with_label_values(&[&partition.to_string()])
                .set(*offset);
        }
    }
}

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
    match assigner
        .checkpoints
        .save(&live, &assigner.settings, checkpoints)
        .await
    {
        Err(Fault::Invalid(error)) => return Err(why_refused(assigner, &live, error).await),
        saved => saved?,
    }
    if !unproven.is_empty() {
        let read = assigner.checkpoints.load(&live).await?;
        compare(unproven, &read).map_err(|error| SaveError::Final(error.into()))?;
    }
    Ok(())
}

/// The statements are prepared together, so the table of the rows may be what is refused: then it is named.
async fn why_refused(assigner: &Assigner, live: &Live, error: String) -> SaveError {
    match schema::verify(live, &assigner.settings.cassandra).await {
        Ok(_) => SaveError::Final(PipelineError::Checkpoint(error)),
        Err(SchemaError::Failed { .. }) => SaveError::Passing(error),
        Err(different) => SaveError::Final(PipelineError::Settle(SettleError::Write(WriteError::Schema(
            different,
        )))),
    }
}

impl From<Fault> for SaveError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Fatal(error) | Fault::Invalid(error) => Self::Final(PipelineError::Checkpoint(error)),
            fault => Self::Passing(format!("{fault:?}")),
        }
    }
}
