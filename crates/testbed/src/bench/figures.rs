//! Figures against goals, as a table for people and one line of JSON for machines.

use serde::Serialize;

/// One line of a goal table.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The figure; none: not measured in this run.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
    /// The goal in words.
    pub goal: String,
    /// Whether it is met; none: not measured.
    pub met: Option<bool>,
}

/// Which side of the goal is good.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Figure {
    /// Holds a figure against its goal.
    pub fn new(name: impl Into<String>, value: Option<f64>, unit: &'static str, goal: Goal) -> Self {
        let met = value.map(|value| match goal {
            Goal::AtMost(bound) => value <= bound,
            Goal::AtLeast(bound) => value >= bound,
        });
        let goal = match goal {
            Goal::AtMost(bound) => format!("<= {bound}"),
            Goal::AtLeast(bound) => format!(">= {bound}"),
        };
        Self::judged(name, value, unit, goal, met)
    }

    /// A figure whose goal has more than one bound: the name tells the others, `met` holds for all of them.
    pub fn judged(
        name: impl Into<String>,
        value: Option<f64>,
        unit: &'static str,
        goal: impl Into<String>,
        met: Option<bool>,
    ) -> Self {
        Self {
            name: name.into(),
            value: value.map(round),
            unit,
            goal: goal.into(),
            met,
        }
    }
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// `median (min to max)`.
pub fn spread(values: &[f64]) -> String {
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({} to {})", round(median(values)), round(min), round(max))
}

/// Prints the table, then the line of JSON.
pub fn print(figures: &[Figure]) {
    println!("\n{:<58} {:>10} {:<8} {:<10} met", "", "value", "unit", "goal");
    for figure in figures {
        let value = figure
            .value
            .map_or_else(|| "-".to_owned(), |value| value.to_string());
        let met = match figure.met {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not measured",
        };
        println!(
            "{:<58} {value:>10} {:<8} {:<10} {met}",
            figure.name, figure.unit, figure.goal
        );
    }
    println!("{}", serde_json::json!({ "figures": figures }));
}

/// Four digits are more than such a measurement is worth.
fn round(value: f64) -> f64 {
    let scale = if value.abs() >= 1_000.0 { 1.0 } else { 1_000.0 };
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_held_against_its_side_of_the_goal() {
        assert_eq!(Figure::new("a", Some(1.4), "", Goal::AtMost(1.5)).met, Some(true));
        assert_eq!(
            Figure::new("a", Some(0.8), "", Goal::AtLeast(0.9)).met,
            Some(false)
        );
        assert_eq!(Figure::new("a", None, "", Goal::AtLeast(0.9)).met, None);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), "2 (1 to 3)");
    }
}
