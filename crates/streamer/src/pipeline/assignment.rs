//! Applies rebalances: new partitions start at their checkpoints, revoked ones are drained before they are released,
//! lost ones are dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use futures::future::FutureExt as _;
use service::failpoint;

use crate::checkpoint::start_offset_resolver::ResolvedStarts;
use crate::checkpoint::{Checkpoint, StartReason};
use crate::consumer::channels::ConsumerCommand;
use crate::consumer::rebalance::RebalanceEvent;
use crate::dead_letters::limits::DeadLetterLimits;
use crate::pipeline::error::PipelineError;
use crate::pipeline::partition_state::PartitionState;
use crate::pipeline::{Pipeline, Revoking};
use ::kafka::ClientRejected;

impl Pipeline {
    pub(super) fn rebalanced(&mut self, event: RebalanceEvent) -> Result<(), PipelineError> {
        match event {
            RebalanceEvent::Assigned {
                assignment,
                partitions,
            } => {
                self.metrics.rebalances.with_label_values(&["assigned"]).inc();
                tracing::info!(?partitions, "partitions assigned");
                self.drop_partitions();
                let unstarted = partitions.iter().map(|partition| (*partition, None));
                self.assigned
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(unstarted);
                self.resolve(assignment, partitions);
            }
            RebalanceEvent::Revoked { partitions, drained } => {
                self.metrics.rebalances.with_label_values(&["revoked"]).inc();
                tracing::info!(?partitions, "partitions revoked");
                self.assigning = None;
                for partition in &partitions {
                    self.batch_builder.remove_partition(*partition);
                    if let Some(state) = self.partitions.get_mut(partition) {
                        state.start_draining();
                    }
                }
                let until = Instant::now() + self.resolver.settings.kafka.revoke_timeout;
                self.revoking = Some(Revoking {
                    partitions,
                    drained,
                    until,
                });
            }
            RebalanceEvent::Lost => {
                self.metrics.rebalances.with_label_values(&["lost"]).inc();
                tracing::warn!("partitions lost: another member may be writing already");
                if !failpoint::inject("zombie_not_fenced") {
                    self.drop_partitions();
                }
            }
            RebalanceEvent::Eof {
                assignment,
                next_offset,
                end,
            } => self.eof(assignment, next_offset, end),
            RebalanceEvent::Unreadable {
                assignment,
                partition,
                offset,
                error,
            } => {
                if let Some(state) = self.partitions.get_mut(&partition) {
                    state.halt_unreadable(assignment, offset, error.to_string());
                }
                return self.halt_partitions();
            }
            RebalanceEvent::Restart(error) => return Err(PipelineError::Restart(error)),
            RebalanceEvent::Rejected(error) => {
                let settings = &self.resolver.settings.kafka;
                let operation = format!("read topic {} as group {}", settings.topic(), settings.group);
                return Err(ClientRejected::new(&operation, &settings.brokers, error).into());
            }
            RebalanceEvent::Fatal(error) => return Err(PipelineError::Consumer(error)),
        }
        Ok(())
    }

    fn resolve(&mut self, assignment: u64, partitions: Vec<i32>) {
        let resolver = Arc::clone(&self.resolver);
        let resolved = async move {
            let starts = resolver.resolve(partitions).await?;
            Ok((assignment, starts))
        };
        self.assigning = Some(resolved.boxed());
    }

    /// Starts the partitions whose leaders have responded. The others follow.
    pub(super) fn started(
        &mut self,
        (assignment, resolved): (u64, ResolvedStarts),
    ) -> Result<(), PipelineError> {
        let ResolvedStarts { starts, pending } = resolved;
        if !pending.is_empty() {
            self.resolve(assignment, pending);
        }
        let limits = DeadLetterLimits::new(&self.resolver.settings.dead_letters);
        for start in &starts {
            let Checkpoint {
                partition, position, ..
            } = start.checkpoint;
            let reason = start.reason;
            match reason {
                StartReason::Recreated | StartReason::OutOfRange(_) => {
                    tracing::warn!(
                        partition,
                        offset = position.next_offset,
                        ?reason,
                        "partition does not start at its checkpoint"
                    );
                }
                _ => tracing::info!(
                    partition,
                    offset = position.next_offset,
                    ?reason,
                    "partition started"
                ),
            }
            let read_back = (reason != StartReason::Checkpoint).then(Instant::now);
            self.partitions.insert(
                partition,
                PartitionState::new(start, assignment, read_back, limits),
            );
        }
        let offsets: Vec<_> = starts
            .iter()
            .map(|start| start.checkpoint.start_offset())
            .collect();
        self.metrics
            .assigned
            .set(i64::try_from(self.partitions.len()).unwrap_or(i64::MAX));
        self.publish(&offsets);
        self.send(ConsumerCommand::Start { assignment, offsets })?;
        self.halt_partitions()
    }

    /// Releases the revoked partitions once they are written and checkpointed.
    pub(super) fn release_if_drained(&mut self) {
        let Some(revoking) = &self.revoking else { return };
        let mut offsets = Vec::new();
        for partition in &revoking.partitions {
            let Some(state) = self.partitions.get_mut(partition) else {
                continue;
            };
            if !state.is_drained() {
                return;
            }
            if state.pending_checkpoint().is_some() {
                self.save();
                return;
            }
            offsets.push((*partition, state.offsets().durable().next_offset));
        }
        if let Some(revoking) = self.revoking.take() {
            // The receiver is dropped after the timeout.
            let _ = revoking.drained.try_send(offsets);
            self.drop_partitions();
        }
    }

    pub(super) fn abandon_revoked(&mut self) {
        if self.revoking.take().is_some() {
            self.drop_partitions();
        }
    }

    /// Drops all partitions, so that later completions of theirs are ignored. An eager assignment always comprises
    /// all partitions.
    fn drop_partitions(&mut self) {
        let partitions: Vec<_> = self.partitions.keys().copied().collect();
        for partition in partitions {
            self.batch_builder.remove_partition(partition);
            let label = partition.to_string();
            for gauge in [
                &self.metrics.checkpoint_offset,
                &self.metrics.lag,
                &self.metrics.open_transaction,
                &self.metrics.end_offset,
            ] {
                // The gauge may never have been set.
                let _ = gauge.remove_label_values(&[&label]);
            }
            let _ = self.metrics.checkpoint_age.remove_label_values(&[&label]);
        }
        self.partitions.clear();
        // An empty set adds no halted partition.
        let _ = self.halted.set(BTreeMap::new());
        self.assigned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.assigning = None;
        self.revoking = None;
        self.metrics.assigned.set(0);
    }
}
