//! The context in which faults are injected, and their effects.

use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::service::Service;

use crate::cluster::Cluster;
use crate::evidence::incident::{DependencyLoss, ExpectedSignal};
use crate::evidence::topic_history::TopicHistory;
use crate::observe::sampling_gate::SamplingGate;
use crate::scenario::fault::PlannedFault;
use crate::service_id::ServiceId;
use crate::services::Services;
use crate::services::config::RoundConfig;
use crate::workload::Workload;

/// For an operator's command, for an expected exit, and for other steps of a fault.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// What faults act on.
#[derive(Clone, Copy)]
pub(crate) struct FaultInjector<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) services: &'a Services,
    /// All faults of the round: others may interfere with one.
    pub(crate) plan: &'a [PlannedFault],
    pub(crate) config: &'a RoundConfig,
    /// Start of the round.
    pub(crate) started: Instant,
    /// Closed while the operator changes checkpoints.
    pub(crate) gate: &'a SamplingGate,
    /// Paused while the topic is missing.
    pub(crate) workload: &'a Workload,
    /// Receives the records that the topic loses.
    pub(crate) history: &'a TopicHistory,
}

/// An [`crate::evidence::incident::Incident`] without its description.
pub(super) struct FaultEffect {
    pub(super) started: f64,
    pub(super) ended: f64,
    pub(super) loss: Option<DependencyLoss>,
    pub(super) excused: Vec<ServiceId>,
    pub(super) signals: Vec<ExpectedSignal>,
    pub(super) only_if_alone: bool,
    pub(super) work_continues: bool,
}

impl FaultInjector<'_> {
    /// Seconds since the round started.
    pub(super) fn now(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// An effect that ends now and shows nowhere.
    pub(super) fn effect(&self, started: f64) -> FaultEffect {
        FaultEffect {
            started,
            ended: self.now(),
            loss: None,
            excused: Vec::new(),
            signals: Vec::new(),
            only_if_alone: false,
            work_continues: false,
        }
    }

    /// The effect of restarted services.
    pub(super) fn restarted(&self, started: f64, ids: Vec<ServiceId>) -> FaultEffect {
        FaultEffect {
            signals: ids.iter().map(|id| ExpectedSignal::Restarted(*id)).collect(),
            excused: ids,
            ..self.effect(started)
        }
    }

    /// Waits until a service exits with this code. Another outcome is recorded, and the service is killed.
    pub(super) async fn expect_exit(
        &self,
        id: ServiceId,
        service: &mut Service,
        code: i32,
        cause: &str,
    ) -> Result<()> {
        let exit = service.wait(STEP_TIMEOUT).await;
        if !matches!(exit, Ok(Some(found)) if found == code) {
            let text = format!("{id} should exit with {code} because of {cause}: {exit:?}");
            self.services.unexpected_exit(text);
            self.services.kill(id, service).await?;
        }
        service.mark_ended();
        Ok(())
    }
}
