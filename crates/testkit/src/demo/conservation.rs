//! Whether the streamer's ledger confirms a run: by the ingester, which compares its run, or for generated records here.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::error::TestkitError;
use crate::service::Service;

/// The interval of questions to the ledger, which grows with each checkpoint.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The verdict of a run, as the ingester reports it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RunVerdict {
    state: String,
    reason: Option<String>,
    ledger: Option<RunLatencies>,
}

#[derive(Debug, Clone, Deserialize)]
struct RunLatencies {
    end_to_end: Option<EndToEnd>,
}

/// The latency from the API's reply to the row.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct EndToEnd {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// The streamer's response: inclusive ranges of sequence numbers.
#[derive(Debug, Default, Deserialize)]
struct LedgerDocument {
    stored: Vec<(u64, u64)>,
    dead_lettered: Vec<(u64, u64)>,
    end_to_end: Option<EndToEnd>,
}

impl RunVerdict {
    /// Queries the streamer until its ledger has each record of a run whose `accepted` records are all of it.
    pub(super) async fn of_ledger(
        streamer: &Service,
        run: &str,
        accepted: u64,
        timeout: Duration,
    ) -> Result<Self, TestkitError> {
        let until = Instant::now() + timeout;
        loop {
            let (status, body) = streamer.get(&format!("/v1/runs/{run}")).await?;
            let ledger: Option<LedgerDocument> = status
                .is_success()
                .then(|| serde_json::from_str(&body).ok())
                .flatten();
            let verdict = ledger.map(|ledger| ledger.compare(accepted));
            match verdict {
                Some(verdict) if verdict.state != "pending" => return Ok(verdict),
                _ if Instant::now() < until => sleep(POLL_INTERVAL).await,
                Some(verdict) => return Ok(verdict),
                None => {
                    return Ok(Self {
                        state: "pending".to_owned(),
                        reason: Some(format!("the streamer responded with {status}: {body}")),
                        ledger: None,
                    });
                }
            }
        }
    }

    pub(super) fn is_conserved(&self) -> bool {
        self.state == "conserved"
    }

    pub(super) fn end_to_end(&self) -> Option<EndToEnd> {
        self.ledger.as_ref()?.end_to_end
    }

    /// The failed check, unless the run is conserved.
    pub(super) fn failure(&self) -> Option<String> {
        let reason = self.reason.as_deref().unwrap_or("no reason");
        (!self.is_conserved()).then(|| format!("the ledger's verdict on the run is {}: {reason}", self.state))
    }
}

impl LedgerDocument {
    /// Compares the ledger with a run whose records `0..accepted` were all accepted.
    fn compare(&self, accepted: u64) -> RunVerdict {
        let mut ranges: Vec<_> = self.stored.iter().chain(&self.dead_lettered).copied().collect();
        ranges.sort_unstable();
        let mut next = 0;
        for (first, last) in ranges {
            if first <= next {
                next = next.max(last + 1);
            }
        }
        let beyond = self
            .stored
            .iter()
            .chain(&self.dead_lettered)
            .any(|(_, last)| *last >= accepted);
        let (state, reason) = if beyond {
            (
                "violated",
                Some("the ledger has records that were not posted".to_owned()),
            )
        } else if next == accepted {
            ("conserved", None)
        } else {
            ("pending", Some(format!("record {next} is not in the ledger")))
        };
        RunVerdict {
            state: state.to_owned(),
            reason,
            ledger: Some(RunLatencies {
                end_to_end: self.end_to_end,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_is_conserved_with_each_record_and_no_other() {
        let state = |stored: &[(u64, u64)], dead_lettered: &[(u64, u64)]| {
            let ledger = LedgerDocument {
                stored: stored.to_vec(),
                dead_lettered: dead_lettered.to_vec(),
                end_to_end: None,
            };
            ledger.compare(10).state
        };
        assert_eq!(state(&[(0, 9)], &[]), "conserved");
        assert_eq!(state(&[(0, 3), (5, 9)], &[(4, 4)]), "conserved");
        assert_eq!(state(&[(0, 3), (5, 9)], &[(3, 3)]), "pending");
        assert_eq!(state(&[(1, 9)], &[]), "pending");
        assert_eq!(state(&[], &[]), "pending");
        assert_eq!(state(&[(0, 10)], &[]), "violated");
    }
}
