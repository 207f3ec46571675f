//! Injects a fault into the pipeline, undoes it after its duration, and reports where it must show.

mod api;
mod disk;
mod group;
pub(crate) mod injector;
mod link;
mod operator;
mod process;
mod regrown_topic;
mod resource_limits;
mod server;
mod store;
mod topic;

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use self::injector::{FaultEffect, FaultInjector};
use crate::evidence::incident::Incident;
use crate::scenario::fault::{Fault, PlannedFault};

pub(crate) use self::server::lost_majorities;

impl FaultInjector<'_> {
    /// Waits for the fault's start, injects it and undoes it.
    pub(crate) async fn run(self, planned: &PlannedFault) -> Result<Incident> {
        sleep(planned.at.saturating_sub(self.started.elapsed())).await;
        let effect = self.inject(&planned.fault, planned.duration).await?;
        Ok(Incident {
            fault: planned.to_string(),
            class: planned.fault.class(),
            started: effect.started,
            ended: effect.ended,
            loss: effect.loss,
            excused: effect.excused,
            signals: effect.signals,
            only_if_alone: effect.only_if_alone,
            work_continues: effect.work_continues,
        })
    }

    async fn inject(&self, fault: &Fault, duration: Duration) -> Result<FaultEffect> {
        match fault {
            Fault::Kill(id) => self.kill(*id, duration).await,
            Fault::Terminate(id) => self.terminate(*id, duration).await,
            Fault::Replace(id, release) => self.replace(*id, *release, duration).await,
            Fault::Freeze(id) => self.freeze(*id, duration).await,
            Fault::CrashLoop(id, times) => self.crash_loop(*id, *times, duration).await,
            Fault::KillAll => self.kill_all(duration).await,
            Fault::CrashPoint(id, point) => self.crash_at(*id, point, duration).await,
            Fault::Server(server, index, outage) => {
                self.server_outage(*server, *index, *outage, duration).await
            }
            Fault::Link(link, fault) => self.disturb_link(*link, *fault, duration).await,
            Fault::Api(fault) => Ok(self.api_responses(fault).await),
            Fault::AddPartitions(more) => self.add_partitions(*more).await,
            Fault::RebalanceStorm(times) => self.rebalance_storm(*times, duration).await,
            Fault::ForeignCommit => self.foreign_commit().await,
            Fault::DeleteCheckpoints => self.delete_checkpoints().await,
            Fault::DropTable => self.drop_table().await,
            Fault::AlterTable => self.alter_table(duration).await,
            Fault::RestoreTable => self.restore_table().await,
            Fault::RecreateTopic => self.recreate_topic().await,
            Fault::RegrowTopic => self.regrow_topic().await,
            Fault::AddNode => self.add_node().await,
            Fault::TruncateTopic(truncation) => self.truncate_topic(*truncation).await,
            Fault::DuplicateMember(id) => self.duplicate_member(*id, duration).await,
            Fault::Disk(owner, fault) => self.disk_fault(*owner, *fault, duration).await,
            Fault::Redrive => self.redrive_dead_letters().await,
            Fault::Exhaust(id, resource) => self.exhaust(*id, *resource, duration).await,
        }
    }
}
