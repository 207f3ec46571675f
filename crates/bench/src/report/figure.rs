//! Measured quantities with goals.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::{Cell, Table};
use crate::measure::spread::{Spread, round};

/// A measured quantity and its goal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// The quantity.
    pub name: String,
    /// The median; `None` if not measured, or if the rounds are too far apart.
    pub value: Option<f64>,
    /// The unit.
    pub unit: String,
    /// The goal as text.
    pub goal: String,
    /// Whether the goal is met; `None` if not measured, with too few rounds, or if the rounds disagree.
    pub met: Option<bool>,
    /// The rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
}

/// A bound.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// Upper bound.
    AtMost(f64),
    /// Lower bound.
    AtLeast(f64),
}

impl Goal {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }

    /// Checks the median of narrow rounds. Wide rounds give a verdict only if all agree.
    fn verdict(self, spread: &Spread) -> Option<bool> {
        if spread.is_narrow() {
            return Some(self.holds(spread.median));
        }
        let [min, max] = [spread.min, spread.max].map(|value| self.holds(value));
        (min == max).then_some(min)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "<= {bound}"),
            Self::AtLeast(bound) => write!(f, ">= {bound}"),
        }
    }
}

impl Figure {
    /// Compares rounds with a goal; without rounds it is not measured.
    pub fn measured(
        name: impl Into<String>,
        rounds: impl IntoIterator<Item = f64>,
        unit: &str,
        goal: Goal,
    ) -> Self {
        let spread = Spread::of(rounds);
        let met = spread.and_then(|spread| goal.verdict(&spread));
        Self::new(name, spread, unit, goal.to_string(), met)
    }

    /// A figure whose goal has several bounds: `met` is the verdict on all of them. Too few rounds give no verdict.
    pub fn new(
        name: impl Into<String>,
        spread: Option<Spread>,
        unit: &str,
        goal: impl Into<String>,
        met: Option<bool>,
    ) -> Self {
        let narrow = spread.filter(Spread::is_narrow);
        Self {
            name: name.into(),
            value: narrow.map(|spread| round(spread.median)),
            unit: unit.to_owned(),
            goal: goal.into(),
            met: met.filter(|_| spread.is_some_and(|spread| spread.is_enough())),
            spread,
        }
    }

    fn seen(&self) -> String {
        match &self.spread {
            None => "not measured".to_owned(),
            Some(spread) if spread.is_narrow() => {
                format!("{spread} {}, {} rounds", self.unit, spread.rounds)
            }
            Some(Spread { min, max, .. }) => {
                format!(
                    "{} to {} {}: too wide for a median",
                    round(*min),
                    round(*max),
                    self.unit
                )
            }
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.met, &self.spread) {
            (Some(true), _) => "yes",
            (Some(false), _) => "no",
            (None, Some(spread)) if !spread.is_enough() => "too few rounds",
            (None, Some(_)) => "unknown",
            (None, None) => "-",
        }
    }
}

/// The goals as a table.
pub fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new("goal", &["measured", "goal", "met"]);
    for figure in figures {
        let cells = [figure.seen(), figure.goal.clone(), figure.verdict().to_owned()];
        table.push(&figure.name, cells.map(Cell::from));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_bound_from_their_side() {
        let met = |value: f64, goal: Goal| Figure::measured("a", [value; 3], "", goal).met;
        assert_eq!(met(1.4, Goal::AtMost(1.5)), Some(true));
        assert_eq!(met(0.8, Goal::AtLeast(0.9)), Some(false));
        assert_eq!(Figure::measured("a", [], "", Goal::AtLeast(0.9)).met, None);
    }

    #[test]
    fn fewer_than_three_rounds_give_no_verdict() {
        let figure = Figure::measured("a", [1.0, 1.0], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (Some(1.0), None));
        assert_eq!(figure.verdict(), "too few rounds");
    }

    #[test]
    fn wide_rounds_give_no_figure() {
        let figure = Figure::measured("a", [0.5, 1.0, 1.5], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (None, None));
        assert_eq!(figure.verdict(), "unknown");
        assert_eq!(figure.seen(), "0.5 to 1.5 ratio: too wide for a median");
    }

    #[test]
    fn wide_rounds_that_agree_give_a_verdict() {
        let figure = Figure::measured("a", [1.0, 2.0, 3.0], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (None, Some(true)));
        let figure = Figure::measured("a", [1.0, 2.0, 3.0], "ratio", Goal::AtMost(0.9));
        assert_eq!((figure.value, figure.met), (None, Some(false)));
    }

    #[test]
    fn narrow_rounds_are_judged_by_their_median() {
        let figure = Figure::measured("a", [0.95, 0.85, 0.91], "ratio", Goal::AtLeast(0.9));
        assert_eq!((figure.value, figure.met), (Some(0.91), Some(true)));
        assert_eq!(figure.verdict(), "yes");
        assert_eq!(figure.seen(), "0.91 (0.85 to 0.95) ratio, 3 rounds");
    }
}
