//! Tables of measured quantities, rendered as aligned Markdown.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measure::cost::Cost;
use crate::measure::spread::Spread;

/// Columns of throughput, CPU time and memory; [`cost_cells`] are their cells.
pub const COST_COLUMNS: [&str; 3] = ["rows/s", "CPU s per million", "peak MiB"];

/// A table; each row starts with its label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The first column's header.
    pub title: String,
    /// The other columns' headers, with units.
    pub columns: Vec<String>,
    /// Label and cells of each row.
    pub rows: Vec<(String, Vec<Cell>)>,
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// A measured quantity.
    Measured(Spread),
    /// Text.
    Text(String),
    /// Nothing was measured.
    Empty,
}

impl Table {
    /// Creates a table without rows.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, label: impl Into<String>, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push((label.into(), cells.into_iter().collect()));
    }
}

/// Throughput, CPU time per million rows and peak memory over the rounds.
pub fn cost_cells(rounds: &[Cost]) -> [Cell; 3] {
    let over = |value: fn(&Cost) -> f64| Spread::of(rounds.iter().map(value)).into();
    [
        over(Cost::rows_per_second),
        over(Cost::cpu_per_million),
        over(|cost| cost.peak_mib),
    ]
}

impl From<Option<Spread>> for Cell {
    fn from(spread: Option<Spread>) -> Self {
        spread.map_or(Self::Empty, Self::Measured)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured(spread) => spread.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::Empty => f.write_str("-"),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = std::iter::once(self.title.clone()).chain(self.columns.clone());
        let mut lines: Vec<Vec<String>> = vec![header.collect()];
        for (label, cells) in &self.rows {
            let cells = cells.iter().map(Cell::to_string);
            lines.push(std::iter::once(label.clone()).chain(cells).collect());
        }
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..=self.columns.len()).map(width).collect();
        let dashes = widths.iter().map(|width| "-".repeat(*width)).collect();
        lines.insert(1, dashes);
        for line in &lines {
            for (cell, width) in line.iter().zip(&widths) {
                write!(f, "| {cell:<width$} ")?;
            }
            writeln!(f, "|")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_aligned_markdown() {
        let cost = |seconds| Cost {
            rows: 30_000,
            seconds,
            cpu_seconds: 0.6,
            peak_mib: 40.0,
        };
        let mut table = Table::new("sink", &COST_COLUMNS);
        table.push("streamer", cost_cells(&[cost(1.5), cost(2.0), cost(3.0)]));
        table.push("none", cost_cells(&[]));
        let expected = "\
| sink     | rows/s                       | CPU s per million   | peak MiB            |
| -------- | ---------------------------- | ------------------- | ------------------- |
| streamer | 15000 (10000 to 20000, wide) | 20.0 (20.0 to 20.0) | 40.0 (40.0 to 40.0) |
| none     | -                            | -                   | -                   |
";
        assert_eq!(table.to_string(), expected);
    }
}
