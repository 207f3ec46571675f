//! What a campaign found, round by round, as JSON that can be merged with that of another part of it.

mod points;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::points::points;
use super::evidence::Evidence;
use super::laws::Violation;
use super::laws::{letters_of, read_again_of, rebalances_of};
use super::round::Order;
use super::scenario::clock;

/// A fault on the timeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Band {
    /// What, in one line.
    pub fault: String,
    /// Its class.
    pub class: u8,
    /// Seconds since the round began.
    pub began: f64,
    /// Seconds since the round began.
    pub ended: f64,
}

/// One second of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Seconds since it began.
    pub at: f64,
    /// Records that the publisher settled in this second.
    pub records: f64,
    /// Rows in this second.
    pub rows: f64,
    /// Records between checkpoints and ends.
    pub lag: f64,
    /// From the publisher's clock to the row, in milliseconds, the mean of this second.
    pub latency_ms: f64,
}

/// A round and its verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// The scenario's name.
    pub scenario: String,
    /// What repeats it.
    pub seed: u64,
    /// The deliberate bug, where there was one.
    pub bug: Option<String>,
    /// The commit that was checked out, with `-dirty` where the tree differed from it; none, where nobody could say.
    #[serde(default)]
    pub commit: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// Records whose acknowledgement was heard.
    pub acknowledged: usize,
    /// Records in the topic.
    pub records: usize,
    /// Rows in the end.
    pub rows: usize,
    /// Dead letters, each counted as often as it lies there.
    pub letters: usize,
    /// Records of the topic that must be dead letters, each once.
    pub refused: usize,
    /// Records that the streamers read beyond the topic's own number, as far as they could tell: what was read again.
    #[serde(default)]
    pub read_again: usize,
    /// Rebalances that were counted.
    pub rebalances: usize,
    /// How often the checkpoints were held against what was durable.
    pub samples: usize,
    /// How long the first record after the last fault took.
    pub fresh_seconds: Option<f64>,
    /// The faults; a clock that is wrong is so all the time.
    pub faults: Vec<Band>,
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// Where the logs of a round that failed lie.
    pub logs: Option<PathBuf>,
    /// The lines of the timeline.
    pub points: Vec<Point>,
}

impl Round {
    /// The round of this order, as it was found.
    #[must_use]
    pub fn new(order: &Order, evidence: &Evidence, violations: Vec<Violation>, took: Duration) -> Self {
        let clocks = order.scenario.clocks.iter().map(|(who, seconds)| Band {
            fault: clock(*who, *seconds),
            class: 7,
            began: 0.0,
            ended: took.as_secs_f64(),
        });
        let faults = evidence.incidents.iter().map(|incident| Band {
            fault: incident.fault.clone(),
            class: incident.class,
            began: incident.began,
            ended: incident.ended,
        });
        Self {
            scenario: order.scenario.name.to_owned(),
            seed: order.seed,
            bug: order.bug.map(ToOwned::to_owned),
            commit: None,
            seconds: took.as_secs_f64(),
            acknowledged: evidence.obligations.len(),
            records: evidence.log.len(),
            rows: evidence.rows.len(),
            letters: evidence.letters.len(),
            refused: letters_of(evidence),
            read_again: read_again_of(evidence),
            rebalances: rebalances_of(evidence),
            samples: evidence.checkpoints.len(),
            fresh_seconds: evidence.fresh_seconds,
            faults: clocks.chain(faults).collect(),
            violations,
            logs: None,
            points: points(evidence),
        }
    }
}

/// A whole campaign, or a part of one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The rounds, in the order in which they were played.
    pub rounds: Vec<Round>,
    /// How many were to be played.
    #[serde(default)]
    pub ordered: usize,
    /// Those that could not be played to their end.
    #[serde(default)]
    pub not_played: Vec<NotPlayed>,
    /// Scenarios that this machine can't play.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// A round without a verdict, which is no better than a bad one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotPlayed {
    /// The scenario's name.
    pub scenario: String,
    /// What repeats it.
    pub seed: u64,
    /// What was in the way.
    pub reason: String,
    /// Where its logs lie.
    pub logs: Option<PathBuf>,
}

/// A scenario that nobody ordered because it can't be played here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its name.
    pub scenario: String,
    /// What is in the way.
    pub reason: String,
}

/// A report can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file.
    #[error("use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is no report.
    #[error("{} is no report", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

/// The last line of output.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// How many rounds.
    pub rounds: usize,
    /// How many scenarios among them; a random round is one, too.
    pub scenarios: usize,
    /// Acknowledged records.
    pub acknowledged: usize,
    /// Violations.
    pub violations: usize,
    /// Rounds that were ordered and have no verdict: they failed, or the budget was spent.
    pub not_played: usize,
    /// Scenarios that this machine can't play.
    pub left_out: Vec<String>,
    /// Where chance began.
    pub seed: u64,
}

impl Summary {
    /// Whether every round that was ordered was played, and held.
    #[must_use]
    pub fn is_green(&self) -> bool {
        self.violations == 0 && self.not_played == 0 && self.rounds > 0
    }
}

impl Report {
    /// All of them, one after the other. Their logs stay where they are, and are named no more. What the budget of one
    /// part left out is not asked of the whole, and what one part played was not left out.
    #[must_use]
    pub fn merged(reports: impl IntoIterator<Item = Self>) -> Self {
        let mut merged = Self::default();
        for report in reports {
            let rounds = report.rounds.into_iter();
            merged
                .rounds
                .extend(rounds.map(|round| Round { logs: None, ..round }));
            let failed = report.not_played.into_iter();
            merged
                .not_played
                .extend(failed.map(|failed| NotPlayed { logs: None, ..failed }));
            merged.left_out.extend(report.left_out);
        }
        let played: BTreeSet<_> = merged
            .rounds
            .iter()
            .map(|round| round.scenario.as_str())
            .collect();
        merged
            .left_out
            .retain(|left| !played.contains(left.scenario.as_str()));
        merged
            .left_out
            .sort_by(|one, other| one.scenario.cmp(&other.scenario));
        merged
            .left_out
            .dedup_by(|one, other| one.scenario == other.scenario);
        merged.ordered = merged.rounds.len() + merged.not_played.len();
        merged
    }

    /// Reads one.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = std::fs::read(path).map_err(|source| ReportError::File {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|source| ReportError::Content {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes it as `report.json` and `report.html` into a folder.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, folder: &Path) -> Result<(), ReportError> {
        let file = |path: PathBuf, text: String| {
            std::fs::write(&path, text).map_err(|source| ReportError::File { path, source })
        };
        let create = |source| ReportError::File {
            path: folder.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(create)?;
        let json = serde_json::to_string(self).map_err(|source| ReportError::Content {
            path: folder.to_owned(),
            source,
        })?;
        file(folder.join("report.json"), json + "\n")?;
        file(folder.join("report.html"), super::page::page(self))
    }

    /// In numbers.
    #[must_use]
    pub fn summary(&self, seed: u64) -> Summary {
        let scenarios: BTreeSet<_> = self.rounds.iter().map(|round| &round.scenario).collect();
        Summary {
            rounds: self.rounds.len(),
            scenarios: scenarios.len(),
            acknowledged: self.rounds.iter().map(|round| round.acknowledged).sum(),
            violations: self.rounds.iter().map(|round| round.violations.len()).sum(),
            not_played: self
                .ordered
                .saturating_sub(self.rounds.len())
                .max(self.not_played.len()),
            left_out: self.left_out.iter().map(|left| left.scenario.clone()).collect(),
            seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_of_which_something_was_not_played_is_not_green() {
        let failed = || NotPlayed {
            scenario: "kills".to_owned(),
            seed: 1,
            reason: "no broker".to_owned(),
            logs: None,
        };
        let nothing = Report::default();
        assert!(!nothing.summary(1).is_green());
        let cut_short = Report {
            ordered: 2,
            ..Report::default()
        };
        assert_eq!(cut_short.summary(1).not_played, 2);
        let with_failed = Report {
            ordered: 1,
            not_played: vec![failed()],
            ..Report::default()
        };
        assert_eq!(with_failed.summary(1).not_played, 1);
        let merged = Report::merged([cut_short, with_failed]);
        assert_eq!((merged.ordered, merged.summary(1).not_played), (1, 1));
    }
}
