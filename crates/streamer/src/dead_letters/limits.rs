//! Decides when a partition has so many dead letters that it is halted: a wrong schema must not drain a topic.
//!
//! Pure. [`stats`](crate::dead_letters::stats) counts; the pipeline halts the partition.

use std::fmt;

use crate::config::DeadLetterSettings;
use crate::dead_letters::stats::{DeadLetterStats, WHOLE};

/// The limits of a partition's dead letters.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetterLimits {
    consecutive: i32,
    ratio: i32,
    window: u32,
}

/// The limit that a partition has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReachedLimit {
    /// The number of consecutive dead letters.
    Consecutive(i32),
    /// The share of dead letters, in percent.
    Ratio(i32),
}

impl DeadLetterLimits {
    /// Creates the configured limits.
    pub fn new(settings: &DeadLetterSettings) -> Self {
        let consecutive = i32::try_from(settings.max_consecutive).unwrap_or(i32::MAX);
        #[allow(clippy::cast_possible_truncation, reason = "a ratio is between 0 and 1")]
        let ratio = (settings.max_ratio * f64::from(WHOLE)) as i32;
        Self {
            consecutive: if consecutive == 0 { i32::MAX } else { consecutive },
            ratio,
            window: settings.window,
        }
    }

    /// The number of records over which the ratio is taken.
    pub fn window(&self) -> u32 {
        self.window
    }

    /// Returns the limit that `stats` has reached. The partition stays halted, also after a restart, until the stats are
    /// reset.
    pub fn reached(&self, stats: DeadLetterStats) -> Option<ReachedLimit> {
        if stats.consecutive >= self.consecutive {
            Some(ReachedLimit::Consecutive(stats.consecutive))
        } else if stats.ratio > self.ratio {
            Some(ReachedLimit::Ratio(stats.ratio / (WHOLE / 100)))
        } else {
            None
        }
    }
}

impl fmt::Display for ReachedLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive(count) => write!(f, "{count} consecutive dead letters"),
            Self::Ratio(percent) => write!(f, "{percent} % of its latest records are dead letters"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_consecutive: u32, max_ratio: f64, window: u32) -> DeadLetterLimits {
        DeadLetterLimits::new(&DeadLetterSettings {
            max_consecutive,
            max_ratio,
            window,
            ..DeadLetterSettings::default()
        })
    }

    fn after(records: impl IntoIterator<Item = bool>, window: u32) -> DeadLetterStats {
        records
            .into_iter()
            .fold(DeadLetterStats::default(), |stats, dead| {
                stats.after(dead, window)
            })
    }

    #[test]
    fn one_row_resets_the_consecutive_dead_letters() {
        let limits = limits(3, 1.0, 10);
        assert_eq!(limits.reached(after([true, true], 10)), None);
        assert_eq!(
            limits.reached(after([true; 3], 10)),
            Some(ReachedLimit::Consecutive(3))
        );
        assert_eq!(limits.reached(after([true, true, false, true], 10)), None);
    }

    #[test]
    fn half_dead_letters_exceed_a_third_but_not_two_thirds() {
        let half = |length| (0..length).map(|number| number % 2 == 0);
        let third = limits(0, 0.33, 100);
        assert!(matches!(
            third.reached(after(half(1_000), 100)),
            Some(ReachedLimit::Ratio(_))
        ));
        assert_eq!(limits(0, 0.66, 100).reached(after(half(10_000), 100)), None);
        assert_eq!(
            third.reached(after(half(20), 100)),
            None,
            "few records do not reach the ratio"
        );
    }

    #[test]
    fn disabled_limits_are_never_reached() {
        assert_eq!(limits(0, 1.0, 1).reached(after([true; 5_000], 1)), None);
    }
}
