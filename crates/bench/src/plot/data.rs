//! The data of plots, as small JSON files.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::spread::{Spread, round};

/// Samples of a line at most: more cannot be seen.
const MAX_SAMPLES: usize = 60;

/// A picture's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// The title.
    pub title: String,
    /// Machine, versions and date, shown below the chart.
    pub source: String,
    /// What is drawn.
    pub chart: Chart,
}

/// A kind of chart with its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chart {
    /// A bar for each product.
    Bars(Bars),
    /// Lines in one coordinate system.
    Lines(LineChart),
    /// Panels in rows and columns.
    Grid(Grid),
}

/// A bar for each product, with the range of its rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bars {
    /// Quantity and unit.
    pub y_label: String,
    /// Products.
    pub bars: Vec<(String, Spread)>,
    /// A product that is drawn as a horizontal line.
    pub baseline: Option<(String, f64)>,
}

/// Lines in one coordinate system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineChart {
    /// Quantity and unit.
    pub x_label: String,
    /// Quantity and unit.
    pub y_label: String,
    /// Whether the x axis is logarithmic.
    pub x_log: bool,
    /// Whether the y axis is logarithmic.
    pub y_log: bool,
    /// The lines.
    pub lines: Vec<ChartLine>,
}

/// A line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChartLine {
    /// The product, which determines the colour.
    pub product: String,
    /// The text at its end. A line with a label is thick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether the product did not keep up at the last point, which is drawn as a cross.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overloaded: bool,
    /// The points.
    pub points: Vec<(f64, f64)>,
}

/// Panels: a row for each measured quantity, a column for each varied parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// The product, which determines the colour.
    pub product: String,
    /// Varied parameters.
    pub columns: Vec<String>,
    /// Measured quantities.
    pub rows: Vec<GridRow>,
}

/// A measured quantity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GridRow {
    /// Quantity and unit.
    pub label: String,
    /// For each column, the parameter's values and the measured rounds.
    pub panels: Vec<Vec<(f64, Spread)>>,
}

impl LineChart {
    /// Memory over time. The y axis is logarithmic if the peaks differ by more than a factor of ten.
    pub fn of_memory(mut lines: Vec<ChartLine>) -> Self {
        let peak = |line: &ChartLine| line.points.iter().map(|point| point.1).fold(0.0, f64::max);
        let peaks = Spread::of(lines.iter().map(peak));
        let y_log = peaks.is_some_and(|peaks| peaks.max > peaks.min * 10.0);
        // A process starts with little memory, which would take most of a logarithmic axis.
        let floor = peaks.filter(|_| y_log).map_or(0.0, |peaks| peaks.min / 10.0);
        for line in &mut lines {
            let name = line.label.as_ref().unwrap_or(&line.product);
            line.label = Some(format!("{name}, {:.0} MiB", peak(line)));
            for point in &mut line.points {
                point.1 = point.1.max(floor);
            }
        }
        Self {
            x_label: "seconds since the start of the process".to_owned(),
            y_label: "MiB, less is better".to_owned(),
            x_log: false,
            y_log,
            lines,
        }
    }
}

impl ChartLine {
    /// A thin line without a label.
    pub fn new(product: &str, points: Vec<(f64, f64)>) -> Self {
        Self {
            product: product.to_owned(),
            points: points.into_iter().map(|(x, y)| (round(x), round(y))).collect(),
            ..Self::default()
        }
    }

    /// The same line, thick and with a label.
    #[must_use]
    pub fn labelled(self, label: &str) -> Self {
        Self {
            label: Some(label.to_owned()),
            ..self
        }
    }
}

impl Plot {
    /// Formats the data as JSON, with an element of each outer array per line.
    pub fn to_json(&self) -> Result<String> {
        let value = serde_json::to_value(self).context("failed to serialize a plot")?;
        let mut text = String::new();
        write_json(&value, 0, &mut text);
        Ok(text + "\n")
    }
}

/// Reduces samples to at most `MAX_SAMPLES`: the maximum of each interval, so that no peak is lost.
pub fn downsample(samples: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let interval = samples.len().div_ceil(MAX_SAMPLES).max(1);
    let peaks = samples.chunks(interval);
    peaks
        .filter_map(|samples| samples.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)))
        .collect()
}

fn write_json(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let (brackets, members): (_, Vec<(String, &Value)>) = match value {
        Value::Object(members) if depth < 3 => {
            let named = members.iter();
            (
                "{}",
                named
                    .map(|(name, value)| (format!("\"{name}\": "), value))
                    .collect(),
            )
        }
        Value::Array(elements) if depth == 3 => (
            "[]",
            elements.iter().map(|value| (String::new(), value)).collect(),
        ),
        other => return text.push_str(&other.to_string()),
    };
    text.push_str(&brackets[..1]);
    for (place, (name, value)) in members.iter().enumerate() {
        text.push_str(if place > 0 { ",\n" } else { "\n" });
        text.push_str(&format!("{indent}  {name}"));
        write_json(value, depth + 1, text);
    }
    text.push_str(&format!("\n{indent}{}", &brackets[1..]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downsampling_keeps_the_peaks() {
        let samples: Vec<_> = (0..600_i32)
            .map(|at| (f64::from(at), f64::from((at * 37) % 100)))
            .collect();
        let reduced = downsample(&samples);
        assert_eq!(reduced.len(), MAX_SAMPLES);
        assert!(reduced.iter().any(|(_, y)| (*y - 99.0).abs() < f64::EPSILON));
        assert!(downsample(&[]).is_empty());
    }
}
