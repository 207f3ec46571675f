//! Warm-up of the servers: measures until the speed is steady, within bounds.
//!
//! A new JVM runs at a third of its speed, and the length of its warm-up depends on the machine.

/// Relative increase below which the speed is steady.
const STEADY: f64 = 0.04;
/// The best of this many last measurements counts, so that a single dip is ignored.
const LAST: usize = 2;
/// Minimum number of measurements.
const MIN_ROUNDS: usize = LAST + 1;
/// Maximum number of measurements after the minimum.
const MAX_EXTRA_ROUNDS: usize = 3;

/// The measured speeds.
#[derive(Debug)]
pub struct Warmup {
    speeds: Vec<f64>,
    min_rounds: usize,
}

impl Default for Warmup {
    fn default() -> Self {
        Self::with_min_rounds(MIN_ROUNDS)
    }
}

impl Warmup {
    /// A warm-up with at min_rounds this many measurements, for servers that compile slowly next to busy processes.
    pub fn with_min_rounds(rounds: usize) -> Self {
        Self {
            speeds: Vec::new(),
            min_rounds: rounds.max(MIN_ROUNDS),
        }
    }

    /// Whether another warm-up round is needed.
    pub fn needs_another_round(&self) -> bool {
        let speeds = self.speeds.len();
        if !(self.min_rounds..self.min_rounds + MAX_EXTRA_ROUNDS).contains(&speeds) {
            return speeds < self.min_rounds;
        }
        let (before, last) = self.speeds.split_at(speeds - LAST);
        best(last) >= best(before) * (1.0 + STEADY)
    }

    /// Adds a speed.
    pub fn record(&mut self, speed: f64) {
        self.speeds.push(speed);
    }

    /// The number of measurements, for the report.
    pub fn rounds(&self) -> usize {
        self.speeds.len()
    }
}

fn best(speeds: &[f64]) -> f64 {
    speeds.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(speeds: impl IntoIterator<Item = f64>) -> usize {
        rounds_of(Warmup::default(), speeds)
    }

    fn rounds_of(mut warmup: Warmup, speeds: impl IntoIterator<Item = f64>) -> usize {
        for speed in speeds {
            if !warmup.needs_another_round() {
                break;
            }
            warmup.record(speed);
        }
        assert!(!warmup.needs_another_round());
        warmup.rounds()
    }

    #[test]
    fn warmup_ends_when_speed_stops_rising() {
        assert_eq!(rounds([10.0, 20.0, 30.0, 31.0, 31.1, 90.0]), 5);
        assert_eq!(rounds([30.0, 29.0, 31.0, 50.0]), 3);
    }

    #[test]
    fn single_dip_does_not_end_warmup() {
        assert_eq!(rounds([20.0, 30.0, 28.0, 33.0, 33.5, 33.0]), 6);
    }

    #[test]
    fn warmup_ends_at_its_maximum_rounds() {
        assert_eq!(
            rounds((1..).map(|round| 2.0_f64.powi(round))),
            MIN_ROUNDS + MAX_EXTRA_ROUNDS
        );
    }

    #[test]
    fn warmup_runs_its_minimum_rounds() {
        assert_eq!(rounds_of(Warmup::with_min_rounds(8), [30.0; 20]), 8);
        assert_eq!(rounds_of(Warmup::with_min_rounds(1), [30.0; 20]), MIN_ROUNDS);
    }
}
