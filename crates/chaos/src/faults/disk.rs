//! Full and read-only disks under the ingester's state and the broker's log.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use testkit::process::Child;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::injector::{FaultEffect, FaultInjector, STEP_TIMEOUT};
use crate::cluster::small_disk::SmallDisk;
use crate::evidence::incident::{DependencyLoss, ExpectedSignal};
use crate::scenario::fault::{DiskFault, DiskOwner};
use crate::service_id::ServiceId;

impl FaultInjector<'_> {
    pub(super) async fn disk_fault(
        &self,
        owner: DiskOwner,
        fault: DiskFault,
        duration: Duration,
    ) -> Result<FaultEffect> {
        let disk = match owner {
            DiskOwner::Ingester => self.config.disk.as_ref(),
            DiskOwner::Kafka => self.cluster.disk.as_ref(),
        };
        let disk = disk.ok_or_else(|| anyhow!("failed to find a small disk for {owner:?}"))?;
        let disk = FaultyDisk(Arc::clone(disk), fault);
        match owner {
            DiskOwner::Ingester => self.break_state_disk(disk, duration).await,
            DiskOwner::Kafka => self.break_log_disk(disk, duration).await,
        }
    }

    /// The ingester exits with 1 when it cannot write its state, and again when it restarts before the repair.
    async fn break_state_disk(&self, disk: FaultyDisk, duration: Duration) -> Result<FaultEffect> {
        let id = ServiceId::Ingester;
        let mut service = self.services.get(id).await;
        let started = self.now();
        self.services.ensure_running(id, &mut service).await?;
        disk.fail().await?;
        self.expect_exit(id, &mut service, 1, "its disk").await?;
        service.spawn()?;
        sleep(duration).await;
        // It may exit at once or wait for something to write, but it must not succeed.
        if let Some(Ok(Some(status))) = service.child().map(Child::exit_status) {
            if !matches!(status.code(), Some(1 | 78)) {
                let text = format!("{id}, started on a failed disk: {status}");
                self.services.unexpected_exit(text);
            }
            service.mark_ended();
        }
        self.services.kill(id, &mut service).await?;
        disk.repair().await?;
        self.services.restart(id, &mut service).await?;
        Ok(self.restarted(started, vec![id]))
    }

    /// The broker exits once it cannot write, and restarts after the repair. It responds until it exits, so the loss
    /// starts with the exit.
    async fn break_log_disk(&self, disk: FaultyDisk, duration: Duration) -> Result<FaultEffect> {
        let node = self.cluster.stack.kafka.node(0)?;
        disk.fail().await?;
        let until = Instant::now() + STEP_TIMEOUT;
        while node.pid().is_some() && Instant::now() < until {
            sleep(Duration::from_millis(50)).await;
        }
        let started = self.now();
        sleep(duration).await;
        if node.pid().is_some() {
            let text = format!("{} kept running on a failed disk", node.name());
            self.services.ineffective_fault(text);
            node.kill().await?;
        }
        disk.repair().await?;
        node.start().await?;
        let of = [vec![ServiceId::Publisher], ServiceId::streamers()].concat();
        let dependency = "kafka";
        Ok(FaultEffect {
            loss: Some(DependencyLoss { dependency, of }),
            signals: vec![
                ExpectedSignal::Missing(dependency),
                ExpectedSignal::Fell("publisher_kafka_up"),
            ],
            ..self.effect(started)
        })
    }
}

/// A disk and its fault. The system's tools block, so they run on other threads.
struct FaultyDisk(Arc<SmallDisk>, DiskFault);

impl FaultyDisk {
    async fn fail(&self) -> Result<()> {
        self.run_blocking(|disk, fault| match fault {
            DiskFault::Full => disk.fill(),
            DiskFault::ReadOnly => disk.abort(),
        })
        .await
    }

    async fn repair(&self) -> Result<()> {
        self.run_blocking(|disk, fault| match fault {
            DiskFault::Full => disk.free(),
            DiskFault::ReadOnly => disk.repair(),
        })
        .await
    }

    async fn run_blocking(&self, work: fn(&SmallDisk, DiskFault) -> Result<()>) -> Result<()> {
        let (disk, fault) = (Arc::clone(&self.0), self.1);
        let done = spawn_blocking(move || work(&disk, fault)).await;
        done.context("failed to change a small disk")?
    }
}
