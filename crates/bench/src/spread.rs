//! How far the rounds of a measurement lie apart, and whether that is near enough for a figure.

use serde::{Deserialize, Serialize};

/// The widest spread, from the least to the most in shares of the median, of which a figure is still told.
pub const TOO_WIDE: f64 = 0.35;

/// Fewer rounds than this tell neither that a goal is met nor that it is missed.
pub const LEAST_ROUNDS: usize = 3;

/// The rounds of one measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// How many there were.
    pub rounds: usize,
}

impl Spread {
    /// Of these rounds; none where there are none, or one is no number.
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

    /// From the least to the most, in shares of the median.
    pub fn width(&self) -> f64 {
        if self.max > self.min {
            (self.max - self.min) / self.median.abs()
        } else {
            0.0
        }
    }

    /// Whether there are rounds enough to hold them against a goal.
    pub fn is_enough(&self) -> bool {
        self.rounds >= LEAST_ROUNDS
    }

    /// Whether the median may stand for the rounds.
    pub fn is_narrow(&self) -> bool {
        self.width() <= TOO_WIDE
    }

    /// The same in another unit.
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

/// The middle of values in their order.
fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// In which order so many things are measured in a round: each round another one is first, so that none always follows
/// the one that wears the servers out.
pub fn order(round: usize, things: usize) -> impl Iterator<Item = usize> {
    (0..things).map(move |place| (place + round) % things)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_lie_together_give_a_figure_and_others_do_not() {
        let narrow = Spread::of(&[0.95, 1.0, 1.1]).unwrap();
        assert!((narrow.median - 1.0).abs() < f64::EPSILON);
        assert!(narrow.is_narrow());
        assert!(!Spread::of(&[0.8, 1.0, 1.2]).unwrap().is_narrow());
        assert!(Spread::of(&[3.0]).unwrap().is_narrow());
        assert!(Spread::of(&[0.0, 0.0]).unwrap().is_narrow());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert!((spread.median - 2.5).abs() < f64::EPSILON);
        assert!(spread.is_enough() && !Spread::of(&[1.0, 2.0]).unwrap().is_enough());
    }

    #[test]
    fn nothing_and_what_is_no_number_have_no_spread() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
        assert_eq!(Spread::of(&[1.0, f64::INFINITY]), None);
    }

    #[test]
    fn each_thing_is_first_in_its_turn() {
        let orders: Vec<Vec<usize>> = (0..3).map(|round| order(round, 3).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }
}
