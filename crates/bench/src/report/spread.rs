//! Spread of a measurement's rounds, and whether it is narrow enough for a figure.

use serde::{Deserialize, Serialize};

/// Maximum spread of a figure, relative to the median.
pub const MAX_WIDTH: f64 = 0.35;

/// Minimum number of rounds for a verdict.
pub const MIN_ROUNDS: usize = 3;

/// The rounds of one measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
    /// The number of rounds.
    pub rounds: usize,
}

impl Spread {
    /// None without rounds or if a value is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let finite = sorted.iter().all(|value| value.is_finite());
        finite.then_some(())?;
        Some(Self {
            median: middle(&sorted)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
            rounds: sorted.len(),
        })
    }

    /// The range relative to the median.
    pub fn width(&self) -> f64 {
        if self.max > self.min {
            (self.max - self.min) / self.median.abs()
        } else {
            0.0
        }
    }

    /// Whether there are enough rounds for a verdict.
    pub fn is_enough(&self) -> bool {
        self.rounds >= MIN_ROUNDS
    }

    /// Whether the spread is narrow enough for a figure.
    pub fn is_narrow(&self) -> bool {
        self.width() <= MAX_WIDTH
    }

    /// Multiplies all values by a factor.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self {
            median: self.median * factor,
            min: self.min * factor,
            max: self.max * factor,
            rounds: self.rounds,
        }
    }
}

/// The median of sorted values.
fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// The order of a round. Each round begins with the next item, so that no item always follows the same one.
pub fn order(round: usize, things: usize) -> impl Iterator<Item = usize> {
    (0..things).map(move |place| (place + round) % things)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_spread_gives_a_figure() {
        let narrow = Spread::of(&[0.95, 1.0, 1.1]).unwrap();
        assert!((narrow.median - 1.0).abs() < f64::EPSILON);
        assert!(narrow.is_narrow());
        assert!(!Spread::of(&[0.8, 1.0, 1.2]).unwrap().is_narrow());
        assert!(Spread::of(&[3.0]).unwrap().is_narrow());
        assert!(Spread::of(&[0.0, 0.0]).unwrap().is_narrow());
    }

    #[test]
    fn median_of_an_even_count_is_the_mean_of_the_middle_two() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert!((spread.median - 2.5).abs() < f64::EPSILON);
        assert!(spread.is_enough() && !Spread::of(&[1.0, 2.0]).unwrap().is_enough());
    }

    #[test]
    fn empty_and_non_finite_values_have_no_spread() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
        assert_eq!(Spread::of(&[1.0, f64::INFINITY]), None);
    }

    #[test]
    fn order_rotates_with_the_rounds() {
        let orders: Vec<Vec<usize>> = (0..3).map(|round| order(round, 3).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }
}
