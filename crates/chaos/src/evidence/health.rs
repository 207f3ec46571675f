//! Health samples and exits of the services.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::service_id::ServiceId;

/// The health endpoints of a process at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct HealthSample {
    pub(crate) at: f64,
    /// Readiness, if the process responded.
    pub(crate) ready: Option<bool>,
    /// Dependencies that are not ready.
    pub(crate) missing: Vec<String>,
    /// Liveness, if the process responded.
    pub(crate) alive: Option<bool>,
    /// The sum of each metric's series, and each labelled series. Empty if the process did not respond.
    pub(crate) metrics: BTreeMap<String, f64>,
}

impl HealthSample {
    /// Whether the process responded with its readiness.
    pub(crate) fn responded(&self) -> bool {
        self.ready.is_some()
    }

    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.get(name).copied()
    }

    pub(crate) fn resident_memory(&self) -> Option<f64> {
        self.metric("process_resident_memory_bytes")
    }

    /// Differs after a restart.
    pub(crate) fn start_time(&self) -> Option<f64> {
        self.metric("process_start_time_seconds")
    }
}

/// A terminated process that could not finish its work within the shutdown grace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LateExit {
    pub(crate) id: ServiceId,
    /// When it received `SIGTERM`.
    pub(crate) from: f64,
    /// When it exited.
    pub(crate) until: f64,
}

/// What happened to the processes during a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceEvents {
    /// Exits that nothing requested, and requested ones with the wrong exit code.
    pub(crate) unexpected_exits: Vec<String>,
    /// Exits with 1 after the shutdown grace.
    pub(crate) late_exits: Vec<LateExit>,
    /// Injected faults without an effect.
    pub(crate) ineffective_faults: Vec<String>,
    /// Samples from right before a process was killed or terminated.
    pub(crate) last_samples: Vec<(ServiceId, HealthSample)>,
}
