//! The result of a bench, whole: what was measured, on what, with what, and every figure. Pictures are drawn from it, so
//! that they can be drawn again without measuring.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::figures::{Figure, round};
use super::machine::{Machine, versions};
use super::spread::Spread;
use super::usage::Cost;
use crate::error::BenchError;

/// One bench's result.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// The bench's name, as on the command line.
    pub bench: String,
    /// When it ended.
    pub at: Timestamp,
    /// On what.
    pub machine: Machine,
    /// With what.
    pub versions: BTreeMap<String, String>,
    /// How much was measured, and how.
    pub configuration: BTreeMap<String, String>,
    /// The goal table.
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
    /// How the work grows.
    #[serde(default)]
    pub growth: Vec<GrowthPoint>,
    /// Where the time of a run through the whole chain went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<SplitLine>,
    /// Who could not be measured, and why not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub absent: BTreeMap<String, String>,
}

/// One quantity of the runs through the whole chain, over all rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SplitLine {
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// What the rounds gave.
    pub seen: Spread,
}

/// A backlog drained, over all rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrainLine {
    /// Who drained it.
    pub name: String,
    /// A bare loop, which nothing can beat by much, and which reads no topic.
    pub ceiling: bool,
    /// Records in the backlog.
    pub records: u64,
    /// From the first row to the last.
    pub rows_per_second: Spread,
    /// Processor seconds for a million rows.
    pub cpu_per_million: Spread,
    /// The most memory.
    pub peak_mib: Spread,
    /// From the start of the process to the first row; none for a loop that connects before it counts.
    pub first_row_seconds: Option<Spread>,
}

/// Records sent to Kafka in one way, over all rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SentLine {
    /// Who sent them, and how.
    pub name: String,
    /// Acknowledged by Kafka.
    pub records_per_second: Spread,
    /// Processor seconds for a million records, without those of Kafka and of the callers.
    pub cpu_per_million: Spread,
    /// The most memory.
    pub peak_mib: Spread,
}

/// Latency from the moment at which a record was to be sent until its row is seen, at one rate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LatencyPoint {
    /// Who wrote the rows.
    pub name: String,
    /// Records a second.
    pub rate: u64,
    /// Rows that were looked for.
    pub probes: u64,
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p90_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
    /// Milliseconds.
    pub max_ms: f64,
    /// Whether it kept up: the rows of the last third came about as soon as those of the first, and none was missing.
    pub kept_up: bool,
}

/// Memory of one process, or of several together, over time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemoryLine {
    /// Whose.
    pub name: String,
    /// Seconds since the start, and MiB then.
    pub samples: Vec<(f64, f64)>,
}

/// Our streamer's drain at one point of one axis, the other axes at their usual place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GrowthPoint {
    /// What grows, with its unit: `records`, `partitions`, ….
    pub axis: String,
    /// How far.
    pub at: f64,
    /// What was seen there.
    pub drain: DrainLine,
}

impl Report {
    /// An empty one of this machine and these versions.
    pub fn new(bench: &str) -> Self {
        Self {
            bench: bench.to_owned(),
            at: Timestamp::now(),
            machine: Machine::this(),
            versions: versions(),
            ..Self::default()
        }
    }

    /// Notes how something was set.
    #[must_use]
    pub fn set(mut self, name: &str, value: &impl std::fmt::Display) -> Self {
        self.configuration.insert(name.to_owned(), value.to_string());
        self
    }

    /// Reads one.
    ///
    /// # Errors
    /// When the file can't be read, or is none.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        let text = fs::read(path).map_err(BenchError::file(path))?;
        serde_json::from_slice(&text).map_err(|source| BenchError::NoReport {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes it, so that it can be read in a diff.
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

    /// Prints machine, versions and configuration, each on a line.
    pub fn print_conditions(&self) {
        let Machine {
            cpu,
            cores,
            memory_mib,
            kernel,
        } = &self.machine;
        let pairs = |pairs: &BTreeMap<String, String>| {
            let all: Vec<_> = pairs
                .iter()
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            all.join(", ")
        };
        println!("\nmachine: {cpu}, {cores} cores, {memory_mib} MiB, {kernel}");
        println!("versions: {}", pairs(&self.versions));
        println!("configuration: {}", pairs(&self.configuration));
    }

    /// Prints what was drained and followed, as tables.
    pub fn print_tables(&self) {
        if !self.drains.is_empty() || !self.growth.is_empty() {
            println!(
                "\n{:<34} {:>24} {:>20} {:>18} {:>16}",
                "drain", "rows/s", "CPU s per million", "peak MiB", "first row, s"
            );
        }
        for drain in &self.drains {
            println!(
                "{:<34} {}",
                format!("{}, {}", drain.name, drain.records),
                drain.columns()
            );
        }
        for GrowthPoint { axis, at, drain } in &self.growth {
            println!("{:<34} {}", format!("{axis}: {at}"), drain.columns());
        }
        if !self.sent.is_empty() {
            println!(
                "\n{:<40} {:>24} {:>20} {:>18}",
                "sent to Kafka", "records/s", "CPU s per million", "peak MiB"
            );
        }
        for line in &self.sent {
            println!(
                "{:<40} {:>24} {:>20} {:>18}",
                line.name,
                column(&line.records_per_second, 0),
                column(&line.cpu_per_million, 2),
                column(&line.peak_mib, 1)
            );
        }
        self.print_latencies();
        if !self.split.is_empty() {
            println!("\n{:<58} seen", "through the whole chain");
        }
        for line in &self.split {
            println!("{:<58} {}", line.name, line.told());
        }
        for (name, reason) in &self.absent {
            println!("\n{name}: not measured: {reason}");
        }
    }

    fn print_latencies(&self) {
        if !self.latencies.is_empty() {
            println!(
                "\n{:<24} {:>10} {:>9} {:>9} {:>9} {:>9} {:>7}",
                "latency, ms", "records/s", "p50", "p90", "p99", "most", "probes"
            );
        }
        for point in &self.latencies {
            println!(
                "{:<24} {:>10} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>7}{}",
                point.name,
                point.rate,
                point.p50_ms,
                point.p90_ms,
                point.p99_ms,
                point.max_ms,
                point.probes,
                if point.kept_up { "" } else { "  did not keep up" }
            );
        }
    }
}

impl SplitLine {
    /// `median unit (least to most)`.
    pub fn told(&self) -> String {
        let Spread { median, min, max, .. } = self.seen;
        format!(
            "{} {} ({} to {})",
            round(median),
            self.unit,
            round(min),
            round(max)
        )
    }
}

/// Why something was not measured, in one line: an error with its causes, without the log that may come with it.
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

/// Of these rounds rows/s, processor seconds for a million rows, and the most memory.
pub(super) fn spreads(rounds: &[Cost]) -> Option<[Spread; 3]> {
    let each = |of: fn(&Cost) -> f64| Spread::of(&rounds.iter().map(of).collect::<Vec<_>>());
    Some([
        each(Cost::rows_per_second)?,
        each(Cost::cpu_per_million)?,
        each(|cost| cost.peak_mib)?,
    ])
}

impl SentLine {
    /// None where there are no rounds, or one tells no cost.
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

impl DrainLine {
    fn columns(&self) -> String {
        let first = self
            .first_row_seconds
            .as_ref()
            .map_or_else(|| "-".to_owned(), |it| column(it, 2));
        format!(
            "{:>24} {:>20} {:>18} {first:>16}",
            column(&self.rows_per_second, 0),
            column(&self.cpu_per_million, 2),
            column(&self.peak_mib, 1)
        )
    }
}

fn column(spread: &Spread, digits: usize) -> String {
    let wide = if spread.is_narrow() { "" } else { " wide" };
    format!(
        "{:.digits$} ({:.digits$}-{:.digits$}){wide}",
        spread.median, spread.min, spread.max
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Goal;

    #[test]
    fn what_is_written_is_read_again() {
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
    fn a_reason_is_one_line_with_all_its_causes() {
        let source = serde_json::from_str::<u8>("x").unwrap_err();
        let error = BenchError::NoReport {
            path: "a.json".into(),
            source,
        };
        let told = reason(&error);
        assert!(
            told.starts_with("a.json is no result of a bench: expected value"),
            "{told}"
        );
        let error = BenchError::Incomplete("one\n\n  two".to_owned());
        assert_eq!(reason(&error), "the run is not complete:; one; two");
    }

    #[test]
    fn a_file_that_is_no_report_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.json");
        std::fs::write(&path, "{}").unwrap();
        let error = Report::read(&path).unwrap_err().to_string();
        assert!(error.contains("some.json is no result of a bench"), "{error}");
    }
}
