//! The result of a benchmark: machine, versions, configuration and all figures. Pictures can be redrawn from it.

pub mod figures;
pub mod machine;
pub mod spread;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::report::figures::{Figure, round};
use crate::report::machine::{Machine, versions};
use crate::report::spread::Spread;
use crate::usage::Cost;

/// The result of one benchmark.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// The benchmark's name on the command line.
    pub bench: String,
    /// When it ended.
    pub at: Timestamp,
    /// The machine.
    pub machine: Machine,
    /// Versions of all components.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// The benchmark's options.
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    /// The goal table.
    #[serde(default)]
    pub figures: Vec<Figure>,
    /// Backlogs drained.
    #[serde(default)]
    pub drains: Vec<DrainLine>,
    /// Records sent to Kafka.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<SentLine>,
    /// Latencies at steady rates.
    #[serde(default)]
    pub latencies: Vec<LatencyPoint>,
    /// Memory over time.
    #[serde(default)]
    pub memory: Vec<MemoryLine>,
    /// The growth points.
    #[serde(default)]
    pub growth: Vec<GrowthPoint>,
    /// The time breakdown of a run through the chain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breakdown: Vec<BreakdownLine>,
    /// Participants that could not be measured, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub absent: BTreeMap<String, String>,
}

/// One quantity of the runs through the chain, over all rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BreakdownLine {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The spread of the rounds.
    pub spread: Spread,
}

/// A backlog drained, over all rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrainLine {
    /// The sink.
    pub name: String,
    /// Whether it is a baseline, which reads no topic.
    pub baseline: bool,
    /// Records in the backlog.
    pub records: u64,
    /// From the first row to the last.
    pub rows_per_second: Spread,
    /// CPU seconds for a million rows.
    pub cpu_per_million: Spread,
    /// Peak memory.
    pub peak_mib: Spread,
    /// Seconds from the start of the process to the first row; none for a baseline.
    pub first_row_seconds: Option<Spread>,
}

/// Records sent to Kafka in one way, over all rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SentLine {
    /// The sender and its mode.
    pub name: String,
    /// Records/s acknowledged by Kafka.
    pub records_per_second: Spread,
    /// CPU seconds for a million records, without Kafka and the callers.
    pub cpu_per_million: Spread,
    /// Peak memory.
    pub peak_mib: Spread,
}

/// Latency at one rate, from a record's due time until its row is visible.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LatencyPoint {
    /// The sink.
    pub name: String,
    /// Records a second.
    pub rate: u64,
    /// Probed rows.
    pub probes: u64,
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p90_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
    /// Milliseconds.
    pub max_ms: f64,
    /// Whether the sink kept up: no row is missing, and the last third was not much later than the first.
    pub kept_up: bool,
}

/// Memory of one process, or of several together, over time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemoryLine {
    /// The processes.
    pub name: String,
    /// Seconds since the start, with the MiB at that time.
    pub samples: Vec<(f64, f64)>,
}

/// The streamer's drain at one point of one dimension.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GrowthPoint {
    /// The dimension with its unit, such as `partitions`.
    pub axis: String,
    /// The value of the dimension.
    pub at: f64,
    /// The drain at this point.
    pub drain: DrainLine,
}

impl Report {
    /// An empty report of this machine and these versions.
    pub fn new(bench: &str) -> Self {
        Self {
            bench: bench.to_owned(),
            at: Timestamp::now(),
            machine: Machine::this(),
            versions: versions(),
            ..Self::default()
        }
    }

    /// Adds an option to the configuration.
    #[must_use]
    pub fn set(mut self, name: &str, value: &impl std::fmt::Display) -> Self {
        self.configuration.insert(name.to_owned(), value.to_string());
        self
    }

    /// Reads a report.
    ///
    /// # Errors
    /// When the file can't be read or parsed.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        let text = fs::read(path).map_err(BenchError::file(path))?;
        serde_json::from_slice(&text).map_err(|source| BenchError::InvalidReport {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes the report as indented JSON.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, path: &Path) -> Result<(), BenchError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(BenchError::file(folder))?;
        }
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        fs::write(path, text + "\n").map_err(BenchError::file(path))
    }
}

impl BreakdownLine {
    /// `median unit (min to max)`.
    pub fn summary(&self) -> String {
        let Spread { median, min, max, .. } = self.spread;
        format!(
            "{} {} ({} to {})",
            round(median),
            self.unit,
            round(min),
            round(max)
        )
    }
}

/// An error with its causes in one line, without its log.
pub fn reason(error: &dyn std::error::Error) -> String {
    const LONGEST: usize = 300;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    line.chars().take(LONGEST).collect()
}

/// Rows/s, CPU seconds for a million rows, and peak memory of the rounds.
pub(crate) fn spreads(rounds: &[Cost]) -> Option<[Spread; 3]> {
    let each = |of: fn(&Cost) -> f64| Spread::of(&rounds.iter().map(of).collect::<Vec<_>>());
    Some([
        each(Cost::rows_per_second)?,
        each(Cost::cpu_per_million)?,
        each(|cost| cost.peak_mib)?,
    ])
}

impl SentLine {
    /// None without rounds or if a round has no cost.
    pub fn of(name: &str, rounds: &[Cost]) -> Option<Self> {
        let [records_per_second, cpu_per_million, peak_mib] = spreads(rounds)?;
        Some(Self {
            name: name.to_owned(),
            records_per_second,
            cpu_per_million,
            peak_mib,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::Goal;

    #[test]
    fn report_round_trips_through_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("of").join("chain.json");
        let mut report = Report::new("chain").set("rounds", &3);
        report.figures = vec![Figure::measured("a", &[1.0, 1.1], "ratio", Goal::AtLeast(0.7))];
        report.write(&path).unwrap();
        let read = Report::read(&path).unwrap();
        assert_eq!((read.bench.as_str(), read.machine), ("chain", report.machine));
        assert_eq!(read.configuration["rounds"], "3");
        assert_eq!(read.figures[0].spread, report.figures[0].spread);
    }

    #[test]
    fn reason_is_one_line_with_all_causes() {
        let source = serde_json::from_str::<u8>("x").unwrap_err();
        let error = BenchError::InvalidReport {
            path: "a.json".into(),
            source,
        };
        let summary = reason(&error);
        assert!(
            summary.starts_with("failed to parse a.json as a benchmark result: expected value"),
            "{summary}"
        );
        let error = BenchError::Incomplete("one\n\n  two".to_owned());
        assert_eq!(reason(&error), "incomplete run:; one; two");
    }

    #[test]
    fn invalid_report_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.json");
        std::fs::write(&path, "{}").unwrap();
        let error = Report::read(&path).unwrap_err().to_string();
        assert!(error.contains("some.json as a benchmark result"), "{error}");
    }
}
