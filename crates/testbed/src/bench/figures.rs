//! Figures against goals, as a table for people and one line of JSON for machines.

use serde::{Deserialize, Serialize};

use super::spread::Spread;

/// One line of a goal table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The figure; none: not measured in this run, or the rounds lie too far apart for one.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: String,
    /// The goal in words.
    pub goal: String,
    /// Whether it is met; none: not measured, or the rounds say both.
    pub met: Option<bool>,
    /// The rounds behind it, where it has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
}

/// Which side of the goal is good.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Goal {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }

    /// What all rounds say; none where they disagree.
    fn verdict(self, spread: &Spread) -> Option<bool> {
        let verdicts = [self.holds(spread.min), self.holds(spread.max)];
        (verdicts[0] == verdicts[1]).then_some(verdicts[0])
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(bound) => write!(formatter, "<= {bound}"),
            Self::AtLeast(bound) => write!(formatter, ">= {bound}"),
        }
    }
}

impl Figure {
    /// Holds a figure against its goal.
    pub fn new(name: impl Into<String>, value: Option<f64>, unit: &str, goal: Goal) -> Self {
        let met = value.map(|value| goal.holds(value));
        Self::judged(name, value, unit, goal.to_string(), met)
    }

    /// Holds the median of rounds against its goal. Rounds that lie too far apart give no figure; the goal is met or
    /// missed nevertheless where all of them say so.
    pub fn measured(name: impl Into<String>, rounds: &[f64], unit: &str, goal: Goal) -> Self {
        let Some(spread) = Spread::of(rounds) else {
            return Self::new(name, None, unit, goal);
        };
        let narrow = spread.is_narrow();
        let met = if narrow {
            Some(goal.holds(spread.median))
        } else {
            goal.verdict(&spread)
        };
        let value = narrow.then_some(spread.median);
        Self {
            spread: Some(spread),
            ..Self::judged(name, value, unit, goal.to_string(), met)
        }
    }

    /// A figure whose goal has more than one bound: the name tells the others, `met` holds for all of them.
    pub fn judged(
        name: impl Into<String>,
        value: Option<f64>,
        unit: &str,
        goal: impl Into<String>,
        met: Option<bool>,
    ) -> Self {
        Self {
            name: name.into(),
            value: value.map(round),
            unit: unit.to_owned(),
            goal: goal.into(),
            met,
            spread: None,
        }
    }

    /// A line of the table.
    fn line(&self) -> String {
        let value = self
            .value
            .map_or_else(|| "-".to_owned(), |value| value.to_string());
        let met = match (self.met, self.value, &self.spread) {
            (Some(true), ..) => "yes",
            (Some(false), ..) => "no",
            (None, None, Some(_)) => "unknown",
            (None, ..) => "not measured",
        };
        let rounds = match &self.spread {
            None => String::new(),
            Some(spread) if self.value.is_none() => {
                format!(
                    "  ({} to {}: too wide for a figure)",
                    round(spread.min),
                    round(spread.max)
                )
            }
            Some(spread) => format!(
                "  ({} to {}, {} rounds)",
                round(spread.min),
                round(spread.max),
                spread.rounds
            ),
        };
        format!(
            "{:<58} {value:>10} {:<8} {:<10} {met}{rounds}",
            self.name, self.unit, self.goal
        )
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
        println!("{}", figure.line());
    }
    println!("{}", serde_json::json!({ "figures": figures }));
}

/// Four digits are more than such a measurement is worth.
pub fn round(value: f64) -> f64 {
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

    #[test]
    fn rounds_that_lie_too_far_apart_give_no_figure() {
        let figure = Figure::measured("a", &[0.5, 1.0, 1.5], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (None, None));
        assert!(
            figure
                .line()
                .contains("unknown  (0.5 to 1.5: too wide for a figure)"),
            "{}",
            figure.line()
        );
    }

    #[test]
    fn a_goal_that_every_round_meets_is_met_however_far_they_lie_apart() {
        let figure = Figure::measured("a", &[1.0, 2.0, 3.0], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (None, Some(true)));
        let figure = Figure::measured("a", &[1.0, 2.0, 3.0], "ratio", Goal::AtMost(0.9));
        assert_eq!((figure.value, figure.met), (None, Some(false)));
    }

    #[test]
    fn the_median_of_narrow_rounds_is_held_against_the_goal() {
        let figure = Figure::measured("a", &[0.95, 0.85, 0.91], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (Some(0.91), Some(true)));
        assert!(
            figure.line().contains("yes  (0.85 to 0.95, 3 rounds)"),
            "{}",
            figure.line()
        );
    }
}
