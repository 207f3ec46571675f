//! What a round plays.

use std::path::PathBuf;
use std::time::Duration;

use testkit::record_type::RecordType;

use super::fault::{Fault, PlannedFault, Release};
use crate::cluster::shape::ClusterShape;
use crate::service_id::ServiceId;

/// Faults and clock shifts of a round.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) shape: ClusterShape,
    pub(crate) plan: Vec<PlannedFault>,
    /// Seconds by which the wall clock of a service is shifted.
    pub(crate) clock_shifts: Vec<(ServiceId, i64)>,
    /// Whether a fault starts only after the one before it has ended.
    pub(crate) sequential: bool,
    /// The release of all services at the start.
    pub(crate) starts_as: Release,
}

impl Scenario {
    /// A scenario without faults, on one server of each kind.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            shape: ClusterShape::Single,
            plan: Vec::new(),
            clock_shifts: Vec::new(),
            sequential: false,
            starts_as: Release::Present,
        }
    }

    /// Adds a fault, with its start and its duration in seconds.
    pub(crate) fn fault(mut self, at: f64, duration: f64, fault: Fault) -> Self {
        let [at, duration] = [at, duration].map(Duration::from_secs_f64);
        self.plan.push(PlannedFault { at, duration, fault });
        self
    }

    pub(crate) fn on(self, shape: ClusterShape) -> Self {
        Self { shape, ..self }
    }

    /// Whether a planned fault satisfies the condition.
    pub(crate) fn has(&self, condition: impl Fn(&Fault) -> bool) -> bool {
        self.plan.iter().any(|planned| condition(&planned.fault))
    }

    /// Whether it needs services built with the feature `failpoint`.
    pub(crate) fn needs_failpoints(&self) -> bool {
        self.has(|fault| matches!(fault, Fault::CrashPoint(..)))
    }

    /// Whether it needs the services of the previous release.
    pub(crate) fn needs_previous(&self) -> bool {
        self.starts_as == Release::Previous || self.has(|fault| matches!(fault, Fault::Replace(..)))
    }

    /// The clock shifts, then the faults, in one line each.
    pub(crate) fn describe(&self) -> Vec<String> {
        let clocks = self
            .clock_shifts
            .iter()
            .map(|(id, seconds)| clock_shift(*id, *seconds));
        clocks.chain(self.plan.iter().map(ToString::to_string)).collect()
    }
}

/// A shifted clock in one line.
pub(crate) fn clock_shift(id: ServiceId, seconds: i64) -> String {
    let direction = if seconds < 0 { "behind" } else { "ahead" };
    format!("clock of {id} {} s {direction}", seconds.unsigned_abs())
}

/// A round to play.
#[derive(Clone, Debug)]
pub struct RoundSpec {
    pub(crate) scenario: Scenario,
    pub(crate) record: RecordType,
    /// Seeds the traffic, and the plan of a random round.
    pub(crate) seed: u64,
    /// The folder of services built with the feature `failpoint`, if the round needs them.
    pub(crate) failpoints: Option<PathBuf>,
    /// The folder of the services of the previous release, if the round needs them.
    pub(crate) previous: Option<PathBuf>,
    /// The failpoint that is active in all services.
    pub(crate) mutation: Option<&'static str>,
}
