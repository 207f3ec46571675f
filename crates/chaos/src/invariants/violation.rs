//! Names of the invariants, and their violations.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What must hold in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Invariant {
    /// Every acknowledged record is in the topic, at its acknowledged position.
    AckedRecordInTopic,
    /// Of every run, the topic contains at least the records that the run history counts.
    RunHistoryInTopic,
    /// The publisher's responses match the requests.
    ResponseMatchesRequest,
    /// Every record in the topic is a row or a dead letter.
    NoRecordSkipped,
    /// Every row equals its user's last valid record in the log.
    RowIsLastRecord,
    /// The write timestamp of every column is the one that the log determines.
    WriteTimestampFromLog,
    /// Topic and table contain only what was sent.
    NoUnknownData,
    /// A dead letter is an invalid record, complete, with its position and its reason.
    DeadLetterIsValid,
    /// The ledger of each run has its records as rows or dead letters, and no others; the ingester finds the same.
    RunConserved,
    /// No checkpoint is ahead of the durable prefix.
    CheckpointNotAhead,
    /// No checkpoint moves backwards.
    CheckpointMonotonic,
    /// The final checkpoint is the end of the partition.
    CheckpointAtEnd,
    /// A record posted after the last fault is a row in time.
    RecoveryInTime,
    /// Each process stays below its memory limit.
    MemoryBounded,
    /// Every fault has an effect and shows in metrics or health endpoints.
    FaultObservable,
    /// The pipeline keeps working with one of three servers down.
    WorkContinues,
    /// Readiness fails in time after a dependency is lost.
    NotReadyAfterLoss,
    /// Readiness succeeds in time after the dependency is back.
    ReadyAfterRecovery,
    /// Liveness never fails.
    AlwaysAlive,
    /// No process exits without a request, and then with the right code.
    NoUnexpectedExit,
    /// No client bypasses a proxy.
    NoProxyBypass,
    /// The round did enough to count.
    SufficientCoverage,
}

impl fmt::Display for Invariant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same name as in JSON.
        self.serialize(out)
    }
}

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvariantViolation {
    pub(crate) invariant: Invariant,
    /// The record, row, process or fault.
    pub(crate) subject: String,
    pub(crate) found: String,
}

impl InvariantViolation {
    pub(crate) fn new(invariant: Invariant, subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            invariant,
            subject: subject.into(),
            found: found.into(),
        }
    }

    /// Whether the recovery was late, as other work on the machine makes it.
    pub fn is_late_recovery(&self) -> bool {
        self.invariant == Invariant::RecoveryInTime
    }
}

impl fmt::Display for InvariantViolation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: {}", self.invariant, self.subject, self.found)
    }
}
