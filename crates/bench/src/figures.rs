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
    /// Whether it is met; none: not measured, too few rounds to tell, or they say both.
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
    /// A line of the goal table that this run has nothing for.
    pub fn absent(name: impl Into<String>, unit: &str, goal: Goal) -> Self {
        Self::judged(name, None, unit, goal.to_string(), None)
    }

    /// Holds the median of rounds against its goal. Rounds that lie too far apart give no figure; the goal is met or
    /// missed nevertheless where all of them say so.
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

    /// The same with the rounds behind it; as it is without any. Too wide a spread gives no figure, too few rounds no
    /// verdict.
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
            (None, _, Some(spread)) if !spread.is_enough() => "too few rounds",
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

/// The middle one; no number where there is none.
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
        let of = |value: f64, goal: Goal| Figure::measured("a", &[value; 3], "", goal).met;
        assert_eq!(of(1.4, Goal::AtMost(1.5)), Some(true));
        assert_eq!(of(0.8, Goal::AtLeast(0.9)), Some(false));
        assert_eq!(Figure::absent("a", "", Goal::AtLeast(0.9)).met, None);
    }

    #[test]
    fn fewer_than_three_rounds_claim_nothing() {
        let figure = Figure::measured("a", &[1.0, 1.0], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (Some(1.0), None));
        assert!(figure.line().contains("too few rounds"), "{}", figure.line());
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
