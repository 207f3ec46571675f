//! Kills, terminations, freezes and crashes of the services.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::injector::{FaultEffect, FaultInjector};
use crate::evidence::incident::ExpectedSignal;
use crate::scenario::fault::Release;
use crate::service_id::ServiceId;
use crate::services::{failpoint, is_running};

/// Until a replaced service is ready: a rolling update waits for each.
const REPLACED_TIMEOUT: Duration = Duration::from_secs(60);
const CRASH_POLL: Duration = Duration::from_millis(20);

impl FaultInjector<'_> {
    pub(super) async fn kill(&self, id: ServiceId, downtime: Duration) -> Result<FaultEffect> {
        let mut service = self.services.get(id).await;
        let started = self.now();
        self.services.kill(id, &mut service).await?;
        sleep(downtime).await;
        self.services.restart(id, &mut service).await?;
        Ok(self.restarted(started, vec![id]))
    }

    pub(super) async fn terminate(&self, id: ServiceId, downtime: Duration) -> Result<FaultEffect> {
        let mut service = self.services.get(id).await;
        let started = self.now();
        self.services.terminate(id, &mut service).await?;
        sleep(downtime).await;
        self.services.restart(id, &mut service).await?;
        Ok(self.restarted(started, vec![id]))
    }

    pub(super) async fn replace(
        &self,
        id: ServiceId,
        release: Release,
        downtime: Duration,
    ) -> Result<FaultEffect> {
        let mut service = self.services.get(id).await;
        let started = self.now();
        self.services.terminate(id, &mut service).await?;
        let options = self
            .services
            .options(self.cluster, self.config, id, release)
            .await;
        service.configure(&options)?;
        sleep(downtime).await;
        self.services.restart(id, &mut service).await?;
        service.wait_until_ready(REPLACED_TIMEOUT).await?;
        Ok(self.restarted(started, vec![id]))
    }

    pub(super) async fn freeze(&self, id: ServiceId, duration: Duration) -> Result<FaultEffect> {
        let mut service = self.services.get(id).await;
        let started = self.now();
        self.services.ensure_running(id, &mut service).await?;
        if let Some(child) = service.child() {
            let frozen = child.freeze().await;
            sleep(duration).await;
            // Thaw also after a failed freeze: some threads may have stopped.
            let thawed = child.thaw();
            if let Err(error) = frozen.and(thawed) {
                let text = format!("{id} could not be frozen: {error}");
                self.services.unexpected_exit(text);
            }
        }
        Ok(FaultEffect {
            excused: vec![id],
            signals: vec![ExpectedSignal::Unresponsive(id)],
            ..self.effect(started)
        })
    }

    /// Each start lasts too short for the service to become ready.
    pub(super) async fn crash_loop(
        &self,
        id: ServiceId,
        times: u32,
        duration: Duration,
    ) -> Result<FaultEffect> {
        let mut service = self.services.get(id).await;
        let started = self.now();
        for _ in 0..times {
            self.services.kill(id, &mut service).await?;
            service.spawn()?;
            sleep(duration / times.max(1)).await;
        }
        self.services.kill(id, &mut service).await?;
        self.services.restart(id, &mut service).await?;
        Ok(self.restarted(started, vec![id]))
    }

    pub(super) async fn kill_all(&self, downtime: Duration) -> Result<FaultEffect> {
        let started = self.now();
        let ids = self.services.ids();
        try_join_all(ids.iter().map(|id| self.kill(*id, downtime))).await?;
        Ok(self.restarted(started, ids))
    }

    /// Waits at most for the duration until the service crashes. A service that does not reach the point is killed, which
    /// is recorded as an ineffective fault.
    pub(super) async fn crash_at(
        &self,
        id: ServiceId,
        point: &'static str,
        duration: Duration,
    ) -> Result<FaultEffect> {
        let mut service = self.services.get(id).await;
        let folder = self.config.crash_requests(id);
        let started = self.now();
        self.services.ensure_running(id, &mut service).await?;
        failpoint::request_crash(&folder, point)
            .with_context(|| format!("failed to use {}", folder.display()))?;
        let until = Instant::now() + duration;
        while Instant::now() < until && is_running(&service) {
            sleep(CRASH_POLL).await;
        }
        let reached = !failpoint::cancel_crash(&folder, point);
        if reached && !is_running(&service) {
            // An expected exit.
            service.mark_ended();
        } else {
            if !reached {
                let text = format!("{id} did not reach {point} in {} s", duration.as_secs());
                self.services.ineffective_fault(text);
            }
            self.services.kill(id, &mut service).await?;
        }
        self.services.restart(id, &mut service).await?;
        Ok(self.restarted(started, vec![id]))
    }
}
