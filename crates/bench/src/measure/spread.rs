//! The spread of a measured quantity over the rounds of one run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The widest range, in shares of the median, for which the median is reported as a figure.
pub const MAX_WIDTH: f64 = 0.35;

/// With fewer rounds a goal is neither met nor missed.
pub const MIN_ROUNDS: usize = 3;

/// Median and range of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Median; of an even number of rounds, the mean of the two in the middle.
    pub median: f64,
    /// Minimum.
    pub min: f64,
    /// Maximum.
    pub max: f64,
    /// Number of rounds.
    pub rounds: usize,
}

impl Spread {
    /// Computes the spread; `None` without rounds, or if a round is not finite.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
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

    /// The range in shares of the median.
    pub fn width(&self) -> f64 {
        if self.max > self.min {
            (self.max - self.min) / self.median.abs()
        } else {
            0.0
        }
    }

    /// Whether the rounds suffice for a verdict on a goal.
    pub fn is_enough(&self) -> bool {
        self.rounds >= MIN_ROUNDS
    }

    /// Whether the median represents the rounds.
    pub fn is_narrow(&self) -> bool {
        self.width() <= MAX_WIDTH
    }
}

impl fmt::Display for Spread {
    /// `median (min to max)`, or only the value of a single round.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, min, max] = [self.median, self.min, self.max].map(short);
        match (self.rounds, self.is_narrow()) {
            (1, _) => f.write_str(&median),
            (_, true) => write!(f, "{median} ({min} to {max})"),
            (_, false) => write!(f, "{median} ({min} to {max}, wide)"),
        }
    }
}

/// Formats small numbers with three digits and large ones as integers.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// Rounds to three decimals, or to an integer from 1,000: more digits exceed the accuracy.
pub fn round(value: f64) -> f64 {
    let scale = if value.abs() >= 1_000.0 { 1.0 } else { 1_000.0 };
    (value * scale).round() / scale
}

/// The median; NaN without values.
pub fn median(values: &[f64]) -> f64 {
    Spread::of(values.iter().copied()).map_or(f64::NAN, |spread| spread.median)
}

/// Formats the spread of values for progress output.
pub fn summary(values: &[f64]) -> String {
    Spread::of(values.iter().copied()).map_or_else(|| "-".to_owned(), |spread| spread.to_string())
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// The order of `count` items in a round. Each round starts with another item, so that none always follows the one that
/// wears the servers out.
pub fn rotation(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |place| (place + round) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread<const N: usize>(values: [f64; N]) -> Spread {
        Spread::of(values).unwrap()
    }

    #[test]
    fn only_narrow_rounds_give_a_figure() {
        let narrow = spread([0.95, 1.0, 1.1]);
        assert!((narrow.median - 1.0).abs() < f64::EPSILON);
        assert!(narrow.is_narrow());
        assert!(!spread([0.8, 1.0, 1.2]).is_narrow());
        assert!(spread([3.0]).is_narrow());
        assert!(spread([0.0, 0.0]).is_narrow());
    }

    #[test]
    fn median_of_an_even_number_is_the_mean_of_the_middle() {
        let spread = spread([4.0, 1.0, 3.0, 2.0]);
        assert!((spread.median - 2.5).abs() < f64::EPSILON);
        assert!(spread.is_enough() && !self::spread([1.0, 2.0]).is_enough());
    }

    #[test]
    fn empty_and_infinite_rounds_have_no_spread() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([1.0, f64::NAN]), None);
        assert_eq!(Spread::of([1.0, f64::INFINITY]), None);
    }

    #[test]
    fn spreads_are_printed_with_three_digits() {
        assert_eq!(summary(&[3.0, 2.9, 2.95]), "2.95 (2.90 to 3.00)");
        assert_eq!(
            spread([10_000.0, 15_000.0, 20_000.0]).to_string(),
            "15000 (10000 to 20000, wide)"
        );
        assert_eq!(summary(&[12.34]), "12.3");
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn each_item_is_first_in_one_round() {
        let orders: Vec<Vec<usize>> = (0..3).map(|round| rotation(round, 3).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }
}
