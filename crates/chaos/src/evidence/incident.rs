//! Faults as they took place, and the signals that they must cause.

use serde::Serialize;

use crate::scenario::fault::FaultClass;
use crate::service_id::ServiceId;

/// A dependency that a fault takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DependencyLoss {
    /// Its name in `/readyz`.
    pub(crate) dependency: &'static str,
    /// The services that depend on it.
    pub(crate) of: Vec<ServiceId>,
}

/// How a fault shows in the metrics and health endpoints.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExpectedSignal {
    /// The start time changes, or the process does not respond.
    Restarted(ServiceId),
    /// The process does not respond.
    Unresponsive(ServiceId),
    /// A metric rises.
    Rose(&'static str),
    /// A metric falls without a restart.
    Fell(&'static str),
    /// The mean of a histogram between two samples exceeds the mean before the fault by this many seconds.
    Slower(&'static str, f64),
    /// The final sum of a metric over all processes is at least this much.
    FinalSum(&'static str, f64),
    /// A service reports in `/readyz` that this dependency is missing.
    Missing(&'static str),
}

/// A fault as it took place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Incident {
    /// Description of one line.
    pub(crate) fault: String,
    pub(crate) class: FaultClass,
    pub(crate) started: f64,
    /// When the fault was undone.
    pub(crate) ended: f64,
    /// What is missing from start to end.
    pub(crate) loss: Option<DependencyLoss>,
    /// Services that are excused from their duties until they are ready again.
    pub(crate) excused: Vec<ServiceId>,
    /// One of these must be seen. Empty if the fault needs no signal.
    pub(crate) signals: Vec<ExpectedSignal>,
    /// Whether the signals are certain only without another fault at the same time: a late response needs a request.
    pub(crate) only_if_alone: bool,
    /// Whether the pipeline must keep working, as with one of three servers down.
    pub(crate) work_continues: bool,
}
