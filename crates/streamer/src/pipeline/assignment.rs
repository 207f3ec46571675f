//! What a change of the assignment means for the partitions' state: new ones start where their checkpoints say, revoked
//! ones are drained before they are given back, lost ones are dropped.

use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use futures::future::FutureExt as _;
use service::failpoint;

use crate::assign::AssignError;
use crate::checkpoint::{Because, Checkpoint, Start};
use crate::kafka::rebalance::Notice;
use crate::kafka::source::Command;
use crate::lane::Lane;
use crate::pipeline::{Pipeline, PipelineError};
use crate::tally::Limits;

/// The assignment with the starts of its partitions.
pub(super) type Started = Result<(u64, Vec<Start>), AssignError>;

/// A revocation that is being drained for.
pub(super) struct Revoking {
    partitions: Vec<i32>,
    drained: SyncSender<Vec<(i32, i64)>>,
    pub(super) until: Instant,
}

impl Pipeline {
    pub(super) fn notice(&mut self, notice: Notice) -> Result<(), PipelineError> {
        match notice {
            Notice::Assigned {
                assignment,
                partitions,
            } => {
                self.metrics.rebalances.with_label_values(&["assigned"]).inc();
                tracing::info!(?partitions, "partitions assigned");
                self.drop_lanes();
                let unstarted = partitions.iter().map(|partition| (*partition, None));
                self.held
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(unstarted);
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
                    if let Some(lane) = self.lanes.get_mut(partition) {
                        lane.give_back();
                    }
                }
                let until = Instant::now() + self.assigner.settings.kafka.revoke_timeout;
                self.revoking = Some(Revoking {
                    partitions,
                    drained,
                    until,
                });
            }
            Notice::Lost => {
                self.metrics.rebalances.with_label_values(&["lost"]).inc();
                tracing::warn!("partitions lost: another member may be writing already");
                if !failpoint::inject("zombie_not_fenced") {
                    self.drop_lanes();
                }
            }
            Notice::Restart(error) => return Err(PipelineError::Restart(error)),
            Notice::Refused(error) => return Err(PipelineError::Refused(error)),
            Notice::Broken(error) => return Err(PipelineError::Broken(error)),
        }
        Ok(())
    }

    pub(super) fn started(&mut self, (assignment, starts): (u64, Vec<Start>)) -> Result<(), PipelineError> {
        let limits = Limits::new(&self.assigner.settings.dead_letters);
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
                Lane::resume(start, assignment, because != Because::Checkpoint, limits),
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
        self.order(Command::Start { assignment, offsets })?;
        self.tell_stopped()
    }

    /// Once everything of the revoked partitions is durable and checkpointed, they are given back.
    pub(super) fn give_back_if_drained(&mut self) {
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

    pub(super) fn give_up_revoked(&mut self) {
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
            let _ = self.metrics.checkpoint_age.remove_label_values(&[&label]);
        }
        self.lanes.clear();
        // None is new among none.
        let _ = self.stopped.set(BTreeMap::new());
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.assigning = None;
        self.revoking = None;
        self.metrics.assigned.set(0);
    }
}
