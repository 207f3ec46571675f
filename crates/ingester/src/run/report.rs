//! The result of a run: outcome, counts and the JSON summary.

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;
use uuid::Uuid;

use crate::delivery::delivery_error::DeliveryError;
use crate::fetch::retrying_fetcher::PageError;
use crate::ledger::verdict::LedgerVerdict;
use crate::run::RunState;
use crate::run::plan::Seed;
use crate::run::run_stats::RunCounts;
use crate::store::StoreError;

/// Outcome of a run.
#[derive(Debug)]
pub enum RunOutcome {
    /// Every user was fetched and every valid record accepted.
    Complete,
    /// Every user was fetched; the publisher rejected some records. A retry would have the same outcome.
    Rejected,
    /// The run was cancelled. The error says why some fetched records are not delivered, unless they were dropped on request.
    Cancelled(Option<RunError>),
    /// The process was stopped; every fetched record is delivered.
    Stopped,
    /// The run failed.
    Failed(RunError),
}

impl RunOutcome {
    /// Returns the name used in metrics and the summary.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Rejected => "rejected",
            Self::Cancelled(_) => "cancelled",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }

    /// Returns the state stored for the run.
    #[must_use]
    pub const fn state(&self) -> RunState {
        match self {
            Self::Complete => RunState::Complete,
            Self::Rejected => RunState::Rejected,
            Self::Cancelled(_) | Self::Stopped => RunState::Cancelled,
            Self::Failed(_) => RunState::Failed,
        }
    }

    /// Returns the outcome of a run that was cancelled, however it ended.
    #[must_use]
    pub fn cancelled(self) -> Self {
        match self {
            Self::Failed(error) | Self::Cancelled(Some(error)) => Self::Cancelled(Some(error)),
            _ => Self::Cancelled(None),
        }
    }
}

/// Why a run failed.
#[derive(Debug, Error)]
pub enum RunError {
    /// A page can't be fetched. Pages fetched before are delivered.
    #[error("failed to fetch users")]
    Fetch(#[source] PageError),
    /// Records can't be delivered.
    #[error("failed to deliver records")]
    Delivery(#[source] DeliveryError),
    /// The run exceeded its time limit.
    #[error("the run exceeded run.timeout of {0:?}")]
    Timeout(Duration),
    /// Too many users can't be mapped to a record, or are rejected by the publisher. Every other one is delivered.
    #[error(
        "{invalid} of {fetched} users are invalid and {rejected} are rejected, more than run.max_invalid_share of {max}; \
         most often {reason}"
    )]
    InvalidUsers {
        /// Number of invalid users.
        invalid: u64,
        /// Number of users that the publisher rejected.
        rejected: u64,
        /// Number of fetched users.
        fetched: u64,
        /// The configured share.
        max: f64,
        /// The most frequent field and rule.
        reason: String,
    },
    /// The progress can't be stored.
    #[error("failed to store the progress of the run")]
    Store(#[source] StoreError),
}

/// Result of a run.
#[derive(Debug)]
pub struct Report {
    /// Id of the run.
    pub run: Uuid,
    /// Seed of the run.
    pub seed: Seed,
    /// Outcome of the run.
    pub outcome: RunOutcome,
    /// Counts of the run.
    pub counts: RunCounts,
    /// Duration of the run in this process.
    pub duration: Duration,
    /// Whether the ledger confirms the run, if it was queried.
    pub verdict: Option<LedgerVerdict>,
}

#[derive(Serialize)]
struct RunSummary<'a> {
    run: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    seed: &'a Seed,
    #[serde(flatten)]
    counts: &'a RunCounts,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a LedgerVerdict>,
}

impl Report {
    /// Returns why the run failed, or why a cancelled one is not delivered, with all causes in one line.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match &self.outcome {
            RunOutcome::Failed(error) | RunOutcome::Cancelled(Some(error)) => {
                Some(service::process::chain(error))
            }
            _ => None,
        }
    }

    /// Whether every retry fails until the operator changes the configuration.
    #[must_use]
    pub fn is_unrecoverable(&self) -> bool {
        matches!(
            &self.outcome,
            RunOutcome::Failed(RunError::Delivery(DeliveryError::Unauthorized(_)))
        )
    }

    /// Returns the summary as one line of JSON.
    #[must_use]
    pub fn summary(&self) -> String {
        let summary = RunSummary {
            run: self.run.to_string(),
            outcome: self.outcome.name(),
            reason: self.reason(),
            seed: &self.seed,
            counts: &self.counts,
            seconds: self.duration.as_secs_f64(),
            verdict: self.verdict.as_ref(),
        };
        serde_json::to_string(&summary).expect("strings and numbers serialize to JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_is_one_line_with_every_count() {
        let report = Report {
            run: Uuid::nil(),
            seed: "abc".parse().unwrap(),
            outcome: RunOutcome::Failed(RunError::Timeout(Duration::from_secs(1))),
            counts: RunCounts {
                requested: 5,
                ..RunCounts::default()
            },
            duration: Duration::from_millis(1_500),
            verdict: None,
        };
        let line = report.summary();
        assert!(!line.contains('\n'));
        let summary: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(summary["outcome"], "failed");
        assert_eq!(summary["reason"], "the run exceeded run.timeout of 1s");
        assert_eq!(
            (&summary["requested"], &summary["seconds"]),
            (&5.into(), &1.5.into())
        );
        for count in [
            "fetched",
            "invalid",
            "duplicate",
            "accepted",
            "rejected",
            "undelivered",
            "retried",
        ] {
            assert_eq!(summary[count], 0, "{count}");
        }
    }
}
