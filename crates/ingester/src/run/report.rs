//! How a run ended: its outcome, its counts, and the one line of JSON that says both.

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;
use uuid::Uuid;

use crate::delivery::retrying_sender::DeliveryError;
use crate::fetch::retrying_fetcher::PageError;
use crate::run::RunState;
use crate::run::plan::Seed;
use crate::run::run_stats::Counts;
use crate::store::StoreError;

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// Every user that was asked for was fetched, and every valid one accepted.
    Complete,
    /// The same, but the publisher refused some. Another try would end the same way.
    Rejected,
    /// The process was told to stop; what was fetched is delivered.
    Stopped,
    /// It could not go on.
    Failed(RunError),
}

impl Outcome {
    /// A short name, for metrics and the summary.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Rejected => "rejected",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }

    /// What the history calls it.
    #[must_use]
    pub const fn state(&self) -> RunState {
        match self {
            Self::Complete => RunState::Complete,
            Self::Rejected => RunState::Rejected,
            Self::Stopped => RunState::Stopped,
            Self::Failed(_) => RunState::Failed,
        }
    }
}

/// Why a run could not go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// A page can't be had; what was fetched before is delivered.
    #[error("fetching ended")]
    Fetch(#[source] PageError),
    /// Records can't be handed over.
    #[error("delivery ended")]
    Delivery(#[source] DeliveryError),
    /// It took too long.
    #[error("not done within run.timeout, {0:?}")]
    Timeout(Duration),
    /// What it does can't be kept.
    #[error("keep the run's state")]
    Store(#[source] StoreError),
}

/// What there is to say of a run.
#[derive(Debug)]
pub struct Report {
    /// The run's id.
    pub run: Uuid,
    /// Its seed, which repeats it.
    pub seed: Seed,
    /// How it ended.
    pub outcome: Outcome,
    /// What it did.
    pub counts: Counts,
    /// How long it took.
    pub duration: Duration,
}

#[derive(Serialize)]
struct Summary<'a> {
    run: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    seed: &'a Seed,
    #[serde(flatten)]
    counts: &'a Counts,
    seconds: f64,
}

impl Report {
    /// Why it failed, if it did, with every cause in one line.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Failed(error) => Some(service::process::chain(error)),
            _ => None,
        }
    }

    /// Whether every later run would fail in the same way until the operator changes something.
    #[must_use]
    pub fn is_unrecoverable(&self) -> bool {
        matches!(
            &self.outcome,
            Outcome::Failed(RunError::Delivery(DeliveryError::Unauthorized(_)))
        )
    }

    /// The run as one line of JSON.
    #[must_use]
    pub fn summary(&self) -> String {
        let summary = Summary {
            run: self.run.to_string(),
            outcome: self.outcome.name(),
            reason: self.reason(),
            seed: &self.seed,
            counts: &self.counts,
            seconds: self.duration.as_secs_f64(),
        };
        serde_json::to_string(&summary).expect("texts and numbers can be written as JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_one_line_with_every_count() {
        let report = Report {
            run: Uuid::nil(),
            seed: "abc".parse().unwrap(),
            outcome: Outcome::Failed(RunError::Timeout(Duration::from_secs(1))),
            counts: Counts {
                requested: 5,
                ..Counts::default()
            },
            duration: Duration::from_millis(1_500),
        };
        let line = report.summary();
        assert!(!line.contains('\n'));
        let summary: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(summary["outcome"], "failed");
        assert_eq!(summary["reason"], "not done within run.timeout, 1s");
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
