//! What a campaign found, round by round, as JSON that can be merged with that of another part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Look};
use super::laws::Violation;
use super::laws::{letters_of, rebalances_of};
use super::round::Order;

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
    /// Records that were refused rightly or not, each once.
    pub refused: usize,
    /// Rebalances that were counted.
    pub rebalances: usize,
    /// How often the checkpoints were held against what was durable.
    pub samples: usize,
    /// How long the first record after the last fault took.
    pub fresh_seconds: Option<f64>,
    /// The faults.
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
        let bands = evidence.incidents.iter().map(|incident| Band {
            fault: incident.fault.clone(),
            class: incident.class,
            began: incident.began,
            ended: incident.ended,
        });
        Self {
            scenario: order.scenario.name.to_owned(),
            seed: order.seed,
            bug: order.bug.map(ToOwned::to_owned),
            seconds: took.as_secs_f64(),
            acknowledged: evidence.obligations.len(),
            records: evidence.log.len(),
            rows: evidence.rows.len(),
            letters: evidence.letters.len(),
            refused: letters_of(evidence),
            rebalances: rebalances_of(evidence),
            samples: evidence.checkpoints.len(),
            fresh_seconds: evidence.fresh_seconds,
            faults: bands.collect(),
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
    /// Where chance began.
    pub seed: u64,
}

impl Report {
    /// All of them, one after the other. Their logs stay where they are, and are named no more.
    #[must_use]
    pub fn merged(reports: impl IntoIterator<Item = Self>) -> Self {
        let rounds = reports.into_iter().flat_map(|report| report.rounds);
        Self {
            rounds: rounds.map(|round| Round { logs: None, ..round }).collect(),
        }
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
            seed,
        }
    }
}

/// The timeline's lines, second by second.
fn points(evidence: &Evidence) -> Vec<Point> {
    let end = evidence
        .looks
        .values()
        .flatten()
        .map(|look| look.at)
        .fold(0.0, f64::max);
    let mut points: Vec<Point> = Vec::new();
    let mut waits: Vec<(f64, f64)> = Vec::new();
    let second = |at: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a round has few seconds"
        )]
        let index = at.max(0.0) as usize;
        index
    };
    points.resize(second(end) + 1, Point::default());
    waits.resize(points.len(), (0.0, 0.0));
    for (index, point) in points.iter_mut().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a round has few seconds")]
        let at = index as f64;
        point.at = at;
    }
    for looks in evidence.looks.values() {
        let mut lags: BTreeMap<usize, f64> = BTreeMap::new();
        for pair in looks.windows(2) {
            let index = second(pair[1].at);
            let grown = |name: &str| grown(&pair[0], &pair[1], name);
            points[index].records += grown("publisher_records_total");
            points[index].rows += grown("streamer_rows_total");
            waits[index].0 += grown("streamer_event_to_row_seconds_sum");
            waits[index].1 += grown("streamer_event_to_row_seconds_count");
            if let Some(lag) = pair[1].metrics.get("streamer_lag_records") {
                lags.insert(index, *lag);
            }
        }
        for (index, lag) in lags {
            points[index].lag += lag;
        }
    }
    for (point, (sum, count)) in points.iter_mut().zip(waits) {
        let mean = if count > 0.0 { sum / count * 1_000.0 } else { 0.0 };
        point.latency_ms = (mean * 10.0).round() / 10.0;
    }
    points
}

/// How much a counter has grown; a new process begins anew.
fn grown(before: &Look, after: &Look, name: &str) -> f64 {
    let value = |look: &Look| look.metrics.get(name).copied();
    match (value(before), value(after)) {
        (Some(before), Some(after)) if after >= before => after - before,
        (_, Some(after)) if before.answered() => after,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::evidence::Who;

    fn look(at: f64, rows: f64) -> Look {
        Look {
            at,
            ready: Some(true),
            metrics: BTreeMap::from([("streamer_rows_total".to_owned(), rows)]),
            ..Look::default()
        }
    }

    #[test]
    fn a_line_goes_on_where_a_process_began_anew() {
        let mut evidence = Evidence::default();
        let looks = vec![look(0.1, 10.0), look(0.9, 30.0), look(1.5, 5.0), look(1.9, 8.0)];
        evidence.looks.insert(Who::Streamer(1), looks);
        let rows: Vec<_> = points(&evidence).iter().map(|point| point.rows).collect();
        assert_eq!(rows, [20.0, 8.0]);
    }
}
