//! When servers are warm: a JVM that was started seconds ago works at a third of its speed, and how long that lasts
//! depends on the machine. So it is measured until the speed no longer rises, within bounds, and not for a fixed count.

/// A speed that rises by less than this share over the best before is steady.
const STILL: f64 = 0.04;
/// Of the last so many the best counts: a single dip says nothing of what comes after it.
const LAST: usize = 2;
/// The last ones, and one before them.
const LEAST: usize = LAST + 1;
/// What has not become steady so many measurements after the least never will.
const PATIENCE: usize = 3;

/// The speeds seen so far.
#[derive(Debug)]
pub struct Warmup {
    seen: Vec<f64>,
    least: usize,
}

impl Default for Warmup {
    fn default() -> Self {
        Self::at_least(LEAST)
    }
}

impl Warmup {
    /// One of so many measurements or more, for where speed is too coarse a sign: a server that is compiled in a corner of
    /// the machine while others have most of it.
    pub fn at_least(rounds: usize) -> Self {
        Self {
            seen: Vec::new(),
            least: rounds.max(LEAST),
        }
    }

    /// Whether it has to be measured once more before rounds count.
    pub fn goes_on(&self) -> bool {
        let seen = self.seen.len();
        if !(self.least..self.least + PATIENCE).contains(&seen) {
            return seen < self.least;
        }
        let (before, last) = self.seen.split_at(seen - LAST);
        best(last) >= best(before) * (1.0 + STILL)
    }

    /// Notes a speed.
    pub fn note(&mut self, speed: f64) {
        self.seen.push(speed);
    }

    /// How many measurements it took, for the report.
    pub fn rounds(&self) -> usize {
        self.seen.len()
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
            if !warmup.goes_on() {
                break;
            }
            warmup.note(speed);
        }
        assert!(!warmup.goes_on());
        warmup.rounds()
    }

    #[test]
    fn it_ends_once_the_speed_no_longer_rises() {
        assert_eq!(rounds([10.0, 20.0, 30.0, 31.0, 31.1, 90.0]), 5);
        assert_eq!(rounds([30.0, 29.0, 31.0, 50.0]), 3);
    }

    #[test]
    fn a_single_dip_does_not_end_it() {
        assert_eq!(rounds([20.0, 30.0, 28.0, 33.0, 33.5, 33.0]), 6);
    }

    #[test]
    fn it_ends_where_the_speed_never_settles() {
        assert_eq!(rounds((1..).map(|round| 2.0_f64.powi(round))), LEAST + PATIENCE);
    }

    #[test]
    fn it_goes_on_as_often_as_it_has_to() {
        assert_eq!(rounds_of(Warmup::at_least(8), [30.0; 20]), 8);
        assert_eq!(rounds_of(Warmup::at_least(1), [30.0; 20]), LEAST);
    }
}
