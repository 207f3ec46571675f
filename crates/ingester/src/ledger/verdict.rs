//! Whether a run is conserved: each accepted record is a row or a dead letter, and so is no record that was never sent. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::PipelineSettings;
use crate::ledger::ledger_ranges::{EndToEnd, LedgerRanges};
use crate::run::run_numbers::RunNumbers;

/// State of a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictState {
    /// The ledger was not queried yet, or does not have each accepted record yet.
    #[default]
    Pending,
    /// The ledger has each accepted record, and none that can't be in the topic.
    Conserved,
    /// The ledger has a record that can't be in the topic, or lacks accepted records for too long.
    Violated,
    /// The ledger of the run has expired before it was complete.
    Expired,
    /// There is nothing to compare.
    Unknown,
}

impl VerdictState {
    /// Whether the state is kept.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Conserved | Self::Violated | Self::Expired)
    }

    /// Returns the name in metrics and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Conserved => "conserved",
            Self::Violated => "violated",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

/// Verdict of a run's comparison with the ledger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LedgerVerdict {
    /// The state.
    pub state: VerdictState,
    /// Why the run is not conserved, or not yet.
    pub reason: Option<String>,
    /// The counts of the ledger's latest response; absent before the first one.
    pub ledger: Option<LedgerCounts>,
}

/// The ledger's response in numbers of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LedgerCounts {
    /// Records that are rows.
    pub rows: u64,
    /// Records that are dead letters and no rows.
    pub dead_letters: u64,
    /// Accepted records that are neither.
    pub missing: u64,
    /// Records in the ledger that were not sent, or that the publisher rejected.
    pub unexpected: u64,
    /// Records that were rows of a table that was dropped, and are neither rows nor dead letters now.
    pub lost: u64,
    /// Latency from the API's reply to the row.
    pub end_to_end: Option<EndToEnd>,
}

impl LedgerCounts {
    /// Compares the numbers of a run with those in the ledger.
    #[must_use]
    pub fn of(numbers: &RunNumbers, ledger: &LedgerRanges) -> Self {
        let dead_letters = ledger.dead_lettered.difference(&ledger.stored);
        let found = ledger.stored.union(&dead_letters);
        Self {
            rows: ledger.stored.count(),
            dead_letters: dead_letters.count(),
            missing: numbers.accepted().difference(&found).count(),
            unexpected: found.union(&ledger.lost).difference(&numbers.possible()).count(),
            lost: ledger.lost.difference(&found).count(),
            end_to_end: ledger.end_to_end,
        }
    }
}

/// When a verdict is final.
#[derive(Clone, Copy, Debug)]
pub struct VerdictRules {
    missing_timeout: Duration,
    retention: Duration,
}

impl VerdictRules {
    /// Returns the rules of the settings.
    #[must_use]
    pub fn new(settings: &PipelineSettings) -> Self {
        Self {
            missing_timeout: settings.missing_timeout,
            retention: settings.ledger_retention,
        }
    }

    /// Returns the verdict of a run that ended at `ended`, if its ledger has expired. A response then proves nothing.
    #[must_use]
    pub fn expired(&self, ended: Timestamp, now: Timestamp) -> Option<LedgerVerdict> {
        let age = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
        (age > self.retention).then(|| LedgerVerdict {
            state: VerdictState::Expired,
            reason: Some(format!(
                "the ledger had not confirmed the run within pipeline.ledger_retention of {}",
                service::duration::format(self.retention)
            )),
            ledger: None,
        })
    }

    /// Returns the verdict of a response whose missing records have not become fewer for the time `unchanged`.
    ///
    /// The ledger only grows. A record too many stays, while a missing one may still come.
    #[must_use]
    pub fn verdict(&self, counts: LedgerCounts, unchanged: Duration) -> LedgerVerdict {
        let LedgerCounts {
            missing,
            unexpected,
            lost,
            ..
        } = counts;
        let of_lost = if lost > 0 {
            format!("; {lost} were rows of a table that was dropped")
        } else {
            String::new()
        };
        let (state, reason) = if unexpected > 0 {
            let reason = format!("{unexpected} records are in the ledger that were not accepted");
            (VerdictState::Violated, Some(reason))
        } else if missing == 0 {
            (VerdictState::Conserved, None)
        } else if unchanged > self.missing_timeout {
            let reason = format!(
                "{missing} accepted records are missing, without progress for pipeline.missing_timeout of {}{of_lost}",
                service::duration::format(self.missing_timeout)
            );
            (VerdictState::Violated, Some(reason))
        } else {
            let reason = format!("{missing} accepted records are not in the ledger yet{of_lost}");
            (VerdictState::Pending, Some(reason))
        };
        LedgerVerdict {
            state,
            reason,
            ledger: Some(counts),
        }
    }
}

impl LedgerVerdict {
    /// Returns the verdict of a run that is not compared.
    #[must_use]
    pub fn unknown(reason: &str) -> Self {
        Self {
            state: VerdictState::Unknown,
            reason: Some(reason.to_owned()),
            ledger: None,
        }
    }

    /// Returns the verdict after a request to the streamer has failed.
    #[must_use]
    pub fn after_error(self, error: String) -> Self {
        Self {
            state: VerdictState::Pending,
            reason: Some(error),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn rules() -> VerdictRules {
        VerdictRules {
            missing_timeout: HOUR,
            retention: 24 * HOUR,
        }
    }

    fn numbers(rejected: &str, undelivered: &str) -> RunNumbers {
        RunNumbers {
            assigned: 10,
            rejected: rejected.parse().unwrap(),
            undelivered: undelivered.parse().unwrap(),
        }
    }

    fn ledger(stored: &str, dead_lettered: &str, lost: &str) -> LedgerRanges {
        LedgerRanges {
            stored: stored.parse().unwrap(),
            dead_lettered: dead_lettered.parse().unwrap(),
            lost: lost.parse().unwrap(),
            end_to_end: None,
        }
    }

    fn verdict_of(numbers: &RunNumbers, ledger: &LedgerRanges, unchanged: Duration) -> LedgerVerdict {
        rules().verdict(LedgerCounts::of(numbers, ledger), unchanged)
    }

    #[test]
    fn run_is_conserved_with_each_accepted_record_and_no_other() {
        use VerdictState::{Conserved, Pending, Violated};
        let all_accepted = numbers("", "");
        // 2 and 3 were rejected; 8 and 9 are undelivered, so they may be in the topic.
        let partly = numbers("2-4", "8-10");
        for (numbers, ledger, state) in [
            (&all_accepted, ledger("0-10", "", ""), Conserved),
            (&all_accepted, ledger("0-6", "6-10", ""), Conserved),
            (&all_accepted, ledger("0-10", "3-5", ""), Conserved),
            (&all_accepted, ledger("0-9", "", ""), Pending),
            (&all_accepted, ledger("", "", ""), Pending),
            (&all_accepted, ledger("0-6", "", "6-10"), Pending),
            (&all_accepted, ledger("0-11", "", ""), Violated),
            (&all_accepted, ledger("0-10", "12-13", ""), Violated),
            (&all_accepted, ledger("0-10", "", "11-12"), Violated),
            (&partly, ledger("0-2,4-8", "", ""), Conserved),
            (&partly, ledger("0-2,4-10", "", ""), Conserved),
            (&partly, ledger("0-2,4-7,8-10", "", ""), Pending),
            (&partly, ledger("0-3,4-8", "", ""), Violated),
            (&partly, ledger("0-3", "", ""), Violated),
            (&numbers("", "0-10"), ledger("", "", ""), Conserved),
        ] {
            let verdict = verdict_of(numbers, &ledger, Duration::ZERO);
            assert_eq!(verdict.state, state, "{ledger:?}");
            assert_eq!(verdict.reason.is_none(), state == Conserved);
        }
    }

    #[test]
    fn a_row_beats_a_dead_letter_of_the_same_record() {
        let counts = LedgerCounts::of(&numbers("", ""), &ledger("0-6", "4-9", "8-10"));
        let expected = LedgerCounts {
            rows: 6,
            dead_letters: 3,
            missing: 1,
            lost: 1,
            ..LedgerCounts::default()
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn missing_records_violate_only_after_the_timeout() {
        let (numbers, ledger) = (numbers("", ""), ledger("0-9", "", "9-10"));
        assert_eq!(verdict_of(&numbers, &ledger, HOUR).state, VerdictState::Pending);
        let verdict = verdict_of(&numbers, &ledger, HOUR + Duration::from_secs(1));
        assert_eq!(verdict.state, VerdictState::Violated);
        assert_eq!(
            verdict.reason.unwrap(),
            "1 accepted records are missing, without progress for pipeline.missing_timeout of 1h; 1 were rows of a table \
             that was dropped"
        );
    }

    #[test]
    fn verdict_expires_with_the_ledger() {
        let at = |hours: i64| Timestamp::from_second(hours * 3_600).unwrap();
        assert_eq!(rules().expired(at(0), at(24)), None);
        assert_eq!(rules().expired(at(30), at(0)), None, "the clock stepped back");
        let verdict = rules().expired(at(0), at(25)).unwrap();
        assert_eq!(verdict.state, VerdictState::Expired);
        assert!(verdict.reason.unwrap().ends_with("of 24h"));
    }
}
