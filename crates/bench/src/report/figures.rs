//! Figures compared with goals, as a table and as one line of JSON.

use serde::{Deserialize, Serialize};

use crate::report::spread::Spread;

/// One row of the goal table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value; none if not measured or if the spread is too wide.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: String,
    /// The goal as text.
    pub goal: String,
    /// Whether the goal is met; none if not measured, with too few rounds, or if the rounds disagree.
    pub met: Option<bool>,
    /// The spread of the rounds, if there are rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
}

/// A goal with its direction.
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

    /// The verdict that all rounds agree on.
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
    /// A figure that was not measured.
    pub fn absent(name: impl Into<String>, unit: &str, goal: Goal) -> Self {
        Self::judged(name, None, unit, goal.to_string(), None)
    }

    /// Compares the median of the rounds with the goal. A wide spread gives no value, but it has a verdict if all
    /// rounds agree.
    pub fn measured(name: impl Into<String>, rounds: &[f64], unit: &str, goal: Goal) -> Self {
        let Some(spread) = Spread::of(rounds) else {
            return Self::absent(name, unit, goal);
        };
        let narrow = spread.is_narrow();
        let met = if narrow {
            Some(goal.holds(spread.median))
        } else {
            goal.verdict(&spread)
        };
        let figure = Self::judged(name, None, unit, goal.to_string(), met);
        figure.of_rounds(spread)
    }

    /// Sets the spread. A wide spread removes the value, too few rounds remove the verdict.
    #[must_use]
    pub fn of_rounds(self, spread: impl Into<Option<Spread>>) -> Self {
        let Some(spread) = spread.into() else { return self };
        Self {
            value: spread.is_narrow().then(|| round(spread.median)),
            met: self.met.filter(|_| spread.is_enough()),
            spread: Some(spread),
            ..self
        }
    }

    /// A figure whose goal has several bounds. The name describes the others, and `met` covers all of them.
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

    /// The row of the Markdown table.
    pub fn row(&self) -> String {
        let met = match (self.met, self.value, &self.spread) {
            (Some(true), ..) => "yes",
            (Some(false), ..) => "no",
            (None, _, Some(spread)) if !spread.is_enough() => "too few rounds",
            (None, None, Some(_)) => "unknown",
            (None, ..) => "not measured",
        };
        let seen = match (&self.spread, self.value) {
            (Some(spread), None) => format!(
                "{} to {}: too wide for a figure",
                round(spread.min),
                round(spread.max)
            ),
            (Some(spread), Some(value)) => format!(
                "{value} {} ({} to {}, {} rounds)",
                self.unit,
                round(spread.min),
                round(spread.max),
                spread.rounds
            ),
            (None, Some(value)) => format!("{value} {}", self.unit),
            (None, None) => "-".to_owned(),
        };
        format!("| {} | {seen} | {} | {met} |\n", self.name, self.goal)
    }
}

/// The median; NaN without values.
pub fn median(values: &[f64]) -> f64 {
    Spread::of(values).map_or(f64::NAN, |spread| spread.median)
}

/// `median (min to max)`.
pub fn spread(values: &[f64]) -> String {
    Spread::of(values).map_or_else(
        || "-".to_owned(),
        |it| format!("{} ({} to {})", round(it.median), round(it.min), round(it.max)),
    )
}

/// Rounds to the precision of the measurements.
pub fn round(value: f64) -> f64 {
    let scale = if value.abs() >= 1_000.0 { 1.0 } else { 1_000.0 };
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_is_compared_with_its_goal() {
        let of = |value: f64, goal: Goal| Figure::measured("a", &[value; 3], "", goal).met;
        assert_eq!(of(1.4, Goal::AtMost(1.5)), Some(true));
        assert_eq!(of(0.8, Goal::AtLeast(0.9)), Some(false));
        assert_eq!(Figure::absent("a", "", Goal::AtLeast(0.9)).met, None);
    }

    #[test]
    fn fewer_than_three_rounds_give_no_verdict() {
        let figure = Figure::measured("a", &[1.0, 1.0], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (Some(1.0), None));
        assert!(figure.row().contains("too few rounds"), "{}", figure.row());
    }

    #[test]
    fn median_is_the_middle_value() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), "2 (1 to 3)");
    }

    #[test]
    fn wide_spread_gives_no_figure() {
        let figure = Figure::measured("a", &[0.5, 1.0, 1.5], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (None, None));
        assert!(
            figure
                .row()
                .contains("0.5 to 1.5: too wide for a figure | >= 0.9 | unknown"),
            "{}",
            figure.row()
        );
    }

    #[test]
    fn wide_spread_has_a_verdict_if_all_rounds_agree() {
        let figure = Figure::measured("a", &[1.0, 2.0, 3.0], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (None, Some(true)));
        let figure = Figure::measured("a", &[1.0, 2.0, 3.0], "ratio", Goal::AtMost(0.9));
        assert_eq!((figure.value, figure.met), (None, Some(false)));
    }

    #[test]
    fn median_of_narrow_rounds_is_compared_with_goal() {
        let figure = Figure::measured("a", &[0.95, 0.85, 0.91], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (Some(0.91), Some(true)));
        assert!(
            figure
                .row()
                .contains("0.91 ratio (0.85 to 0.95, 3 rounds) | >= 0.9 | yes"),
            "{}",
            figure.row()
        );
    }
}
