//! The result of a round.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::timeline::rows_per_second;
use crate::evidence::Evidence;
use crate::invariants::{InvariantViolation, expected_dead_letters, rebalances, reread_records};
use crate::scenario::fault::FaultClass;
use crate::scenario::{RoundSpec, clock_shift};

/// A fault on the timeline, in seconds since the round started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FaultSpan {
    pub(crate) fault: String,
    pub(crate) class: FaultClass,
    pub(crate) started: f64,
    pub(crate) ended: f64,
}

/// A round with its verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoundReport {
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    /// The active failpoint.
    pub(crate) mutation: Option<String>,
    /// The checked-out commit, with `-dirty` if the tree differs from it.
    pub(crate) commit: Option<String>,
    /// Duration of the round.
    pub(crate) seconds: f64,
    /// Acknowledged records.
    pub(crate) acknowledged: usize,
    /// Records in the topic.
    pub(crate) records: usize,
    pub(crate) rows: usize,
    /// Records in the dead-letter topic, including duplicates.
    pub(crate) dead_letters: usize,
    /// Records of the topic that must be dead letters.
    pub(crate) invalid_records: usize,
    /// Records that the streamers read again, by their own counters.
    pub(crate) reread: usize,
    pub(crate) rebalances: usize,
    pub(crate) checkpoint_samples: usize,
    /// Seconds from the last fault until a record posted after it is a row.
    pub(crate) recovery_seconds: Option<f64>,
    /// A shifted clock lasts for the whole round.
    pub(crate) faults: Vec<FaultSpan>,
    /// The violated invariants.
    pub violations: Vec<InvariantViolation>,
    /// The folder of the logs, after a violation.
    pub(crate) logs: Option<PathBuf>,
    pub(crate) rows_per_second: Vec<f64>,
}

impl RoundReport {
    pub(crate) fn new(
        spec: &RoundSpec,
        evidence: &Evidence,
        violations: Vec<InvariantViolation>,
        duration: Duration,
    ) -> Self {
        let clocks = spec.scenario.clock_shifts.iter().map(|(id, seconds)| FaultSpan {
            fault: clock_shift(*id, *seconds),
            class: FaultClass::Group,
            started: 0.0,
            ended: duration.as_secs_f64(),
        });
        let faults = evidence.incidents.iter().map(|incident| FaultSpan {
            fault: incident.fault.clone(),
            class: incident.class,
            started: incident.started,
            ended: incident.ended,
        });
        Self {
            scenario: spec.scenario.name.to_owned(),
            seed: spec.seed,
            mutation: spec.mutation.map(ToOwned::to_owned),
            commit: None,
            seconds: duration.as_secs_f64(),
            acknowledged: evidence.acked.len(),
            records: evidence.log.len(),
            rows: evidence.rows.len(),
            dead_letters: evidence.dead_letters.len(),
            invalid_records: expected_dead_letters(evidence),
            reread: reread_records(evidence),
            rebalances: rebalances(evidence),
            checkpoint_samples: evidence.checkpoints.len(),
            recovery_seconds: evidence.recovery_seconds,
            faults: clocks.chain(faults).collect(),
            violations,
            logs: None,
            rows_per_second: rows_per_second(evidence),
        }
    }

    /// Prints the figures and the violations to standard error.
    pub(crate) fn print(&self) {
        let recovery = self
            .recovery_seconds
            .map_or("never".to_owned(), |seconds| format!("after {seconds:.1} s"));
        eprintln!(
            "  {:.0} s: {} acknowledged, {} records, {} rows, {} invalid, {} rebalances, {} checkpoint samples, recovered {recovery}",
            self.seconds,
            self.acknowledged,
            self.records,
            self.rows,
            self.invalid_records,
            self.rebalances,
            self.checkpoint_samples
        );
        for violation in &self.violations {
            eprintln!("  VIOLATED {violation}");
        }
    }
}
