//! The result of a bench: conditions, goals, tables and plots. Prints as Markdown, on the terminal too, and saves as
//! JSON.

pub mod figure;
pub mod machine;
pub mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::figure::Figure;
use self::machine::{Machine, versions};
use self::table::Table;
use crate::plot;
use crate::plot::data::{Chart, Plot};

/// Longest reason why something was not measured, in characters.
const MAX_REASON: usize = 300;

/// The result of one bench.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// The bench's name on the command line.
    pub bench: String,
    /// When it started.
    pub at: Timestamp,
    /// The machine.
    pub machine: Machine,
    /// Versions of servers, libraries and peers.
    pub versions: BTreeMap<String, String>,
    /// Sizes and settings.
    pub configuration: BTreeMap<String, String>,
    /// Measured quantities with goals.
    pub figures: Vec<Figure>,
    /// Other measured quantities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Table>,
    /// What was not measured, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, String>,
    /// Plots by name; each is saved as a file of its own.
    #[serde(skip)]
    pub plots: Vec<(&'static str, Plot)>,
}

impl Report {
    /// Creates an empty report of this machine and these versions.
    pub fn new(bench: &str) -> Self {
        Self {
            bench: bench.to_owned(),
            at: Timestamp::now(),
            machine: Machine::current(),
            versions: versions(),
            ..Self::default()
        }
    }

    /// Adds a size or setting to the configuration.
    #[must_use]
    pub fn set(mut self, name: &str, value: &impl fmt::Display) -> Self {
        self.configuration.insert(name.to_owned(), value.to_string());
        self
    }

    /// Adds a plot with the machine, versions and date below it.
    pub fn add_plot(&mut self, name: &'static str, title: impl Into<String>, chart: Chart) {
        let plot = Plot {
            title: title.into(),
            source: self.source(),
            chart,
        };
        self.plots.push((name, plot));
    }

    fn source(&self) -> String {
        let version = |name: &str| self.versions.get(name).map_or("?", String::as_str);
        format!(
            "{}, {} cores, {} GiB; Kafka {}, Cassandra {}; {}",
            self.machine.cpu,
            self.machine.cores,
            (self.machine.memory_mib + 512) / 1_024,
            version("kafka"),
            version("cassandra"),
            self.at.strftime("%Y-%m-%d")
        )
    }

    /// Reads a report from JSON.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("failed to parse {} as the result of a bench", path.display()))
    }

    /// Writes the report as JSON, and each plot next to it as JSON and SVG. Returns the paths.
    pub fn save(&self, path: &Path) -> Result<Vec<PathBuf>> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        }
        let text = serde_json::to_string_pretty(self).context("failed to serialize the report")?;
        plot::write(path, &(text + "\n"))?;
        let mut written = vec![path.to_path_buf()];
        let stem = path.with_extension("");
        for (name, plot) in &self.plots {
            let data = PathBuf::from(format!("{}-{name}.json", stem.display()));
            plot::write(&data, &plot.to_json()?)?;
            let picture = plot::draw(plot, &data)?;
            written.extend([data, picture]);
        }
        Ok(written)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = |pairs: &BTreeMap<String, String>| {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            pairs.join(", ")
        };
        writeln!(f, "\n{}.\n", self.source())?;
        writeln!(f, "Versions: {}.\n", pairs(&self.versions))?;
        writeln!(f, "Configuration: {}.", pairs(&self.configuration))?;
        let goals = figure::table(&self.figures);
        for table in std::iter::once(&goals).chain(&self.tables) {
            if !table.rows.is_empty() {
                write!(f, "\n{table}")?;
            }
        }
        self.skipped
            .iter()
            .try_for_each(|(name, reason)| writeln!(f, "\n{name}: not measured: {reason}"))
    }
}

/// Formats an error with its causes as one line, without the log that may follow.
pub fn reason(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    line.chars().take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::measure::spread::Spread;
    use figure::Goal;

    fn example() -> Report {
        let mut report = Report::new("chain").set("rounds", &3);
        report.figures = vec![Figure::measured("a", [1.0, 1.1], "ratio", Goal::AtLeast(0.7))];
        let mut table = Table::new("drain", &["rows/s"]);
        table.push("affluent", [Spread::of([45_000.0]).into()]);
        report.tables.push(table);
        let reason = "Batch too large".to_owned();
        report.skipped.insert("Flink".to_owned(), reason);
        report
    }

    #[test]
    fn saved_report_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("of").join("chain.json");
        let report = example();
        assert_eq!(report.save(&path).unwrap().len(), 1);
        let read = Report::read(&path).unwrap();
        assert_eq!((read.bench.as_str(), &read.machine), ("chain", &report.machine));
        assert_eq!(read.configuration["rounds"], "3");
        assert_eq!(read.figures[0].spread, report.figures[0].spread);
        assert_eq!(read.tables, report.tables);
    }

    #[test]
    fn report_prints_conditions_tables_and_skipped_peers() {
        let text = example().to_string();
        for expected in [
            "Kafka ",
            "Configuration: rounds 3.",
            "| drain    | rows/s |",
            "| affluent | 45000  |",
            "Flink: not measured: Batch too large",
        ] {
            assert!(text.contains(expected), "no {expected:?} in {text}");
        }
    }

    #[test]
    fn reason_is_one_line_with_all_causes() {
        let error = anyhow!("expected value").context("failed to parse a.json");
        assert_eq!(reason(&error), "failed to parse a.json: expected value");
        assert_eq!(reason(&anyhow!("one\n\n  two")), "one; two");
    }

    #[test]
    fn invalid_report_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.json");
        std::fs::write(&path, "{}").unwrap();
        let error = Report::read(&path).unwrap_err().to_string();
        assert!(error.contains("some.json as the result of a bench"), "{error}");
    }
}
