//! When servers are warm: a JVM that was started seconds ago works at a third of its speed, and how long that lasts
//! depends on the machine. So it is measured until the speed no longer rises, within bounds, and not for a fixed count.

/// A speed that rises by less than this share over the best before is steady.
const STILL: f64 = 0.10;
/// One measurement can't tell whether speed rises.
const LEAST: usize = 2;
/// What has not become steady by then never will.
const MOST: usize = 6;

/// The speeds seen so far.
#[derive(Debug, Default)]
pub struct Warmup {
    seen: Vec<f64>,
}

impl Warmup {
    /// Whether it has to be measured once more before rounds count.
    pub fn goes_on(&self) -> bool {
        match self.seen.split_last() {
            _ if self.seen.len() < LEAST => true,
            _ if self.seen.len() >= MOST => false,
            Some((last, before)) => {
                let best = before.iter().copied().fold(0.0, f64::max);
                *last > best * (1.0 + STILL)
            }
            None => true,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(speeds: impl IntoIterator<Item = f64>) -> usize {
        let mut warmup = Warmup::default();
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
        assert_eq!(rounds([10.0, 20.0, 30.0, 31.0, 90.0]), 4);
        assert_eq!(rounds([30.0, 29.0, 50.0]), 2);
    }

    #[test]
    fn it_ends_where_the_speed_never_settles() {
        assert_eq!(rounds((1..).map(|round| 2.0_f64.powi(round))), MOST);
    }
}
