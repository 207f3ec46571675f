//! Detects when servers are warm. A JVM that has just started runs at a third of its speed, for a time that depends on
//! the machine. So the warm-up repeats until the speed no longer rises, within bounds.

/// A smaller rise over the best earlier speed counts as steady.
const STEADY_RISE: f64 = 0.04;
/// The best of the last measurements counts: a single dip proves nothing.
const LAST: usize = 2;
/// The last ones, and one before them.
const MIN_ROUNDS: usize = LAST + 1;
/// Measurements after the minimum until the warm-up ends without being steady.
const EXTRA_ROUNDS: usize = 3;

/// The speeds measured so far.
#[derive(Debug)]
pub struct Warmup {
    speeds: Vec<f64>,
    min_rounds: usize,
}

impl Default for Warmup {
    fn default() -> Self {
        Self::at_least(MIN_ROUNDS)
    }
}

impl Warmup {
    /// A warm-up of at least this many rounds, for servers whose compiler is busy longer than the speed shows.
    pub fn at_least(rounds: usize) -> Self {
        Self {
            speeds: Vec::new(),
            min_rounds: rounds.max(MIN_ROUNDS),
        }
    }

    /// Whether another warm-up round is needed.
    pub fn needs_another(&self) -> bool {
        let done = self.speeds.len();
        if !(self.min_rounds..self.min_rounds + EXTRA_ROUNDS).contains(&done) {
            return done < self.min_rounds;
        }
        let (before, last) = self.speeds.split_at(done - LAST);
        best(last) >= best(before) * (1.0 + STEADY_RISE)
    }

    /// Records the speed of a round.
    pub fn record(&mut self, speed: f64) {
        self.speeds.push(speed);
    }

    /// The number of rounds so far.
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

    fn rounds(mut warmup: Warmup, speeds: impl IntoIterator<Item = f64>) -> usize {
        for speed in speeds {
            if !warmup.needs_another() {
                break;
            }
            warmup.record(speed);
        }
        assert!(!warmup.needs_another());
        warmup.rounds()
    }

    #[test]
    fn warmup_ends_when_speed_no_longer_rises() {
        let speeds = [10.0, 20.0, 30.0, 31.0, 31.1, 90.0];
        assert_eq!(rounds(Warmup::default(), speeds), 5);
        assert_eq!(rounds(Warmup::default(), [30.0, 29.0, 31.0, 50.0]), 3);
    }

    #[test]
    fn single_dip_does_not_end_the_warmup() {
        let speeds = [20.0, 30.0, 28.0, 33.0, 33.5, 33.0];
        assert_eq!(rounds(Warmup::default(), speeds), 6);
    }

    #[test]
    fn warmup_ends_when_speed_never_settles() {
        let speeds = (1..).map(|round| 2.0_f64.powi(round));
        assert_eq!(rounds(Warmup::default(), speeds), MIN_ROUNDS + EXTRA_ROUNDS);
    }

    #[test]
    fn warmup_runs_the_minimum_of_rounds() {
        assert_eq!(rounds(Warmup::at_least(8), [30.0; 20]), 8);
        assert_eq!(rounds(Warmup::at_least(1), [30.0; 20]), MIN_ROUNDS);
    }
}
