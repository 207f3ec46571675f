//! How many of a partition's latest records became dead letters, and when that is too many: a wrong schema must not
//! drain a topic.
//!
//! Pure. The tally is a function of the log and is kept in the checkpoint, so that a restart resets nothing; stopping
//! the partition is for the pipeline.

use std::fmt;

use crate::settings::DeadLetterSettings;

/// The dead letters of a partition up to one point of its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Dead letters since the last record that became a row.
    pub in_a_row: i32,
    /// Their share of the latest records, in parts of [`WHOLE`]. What is older counts less and less, so it takes no
    /// room: after as many records as the window has, a record still counts for a third.
    pub share: i32,
}

/// A share of 1.
pub const WHOLE: i32 = 1_000_000_000;

impl Tally {
    /// After one more record, under a window of `window` records.
    #[must_use]
    pub fn after(self, dead: bool, window: u32) -> Self {
        if !dead && self == Self::default() {
            return self;
        }
        let goal = if dead { WHOLE } else { 0 };
        let step = (i64::from(goal) - i64::from(self.share)) / i64::from(window.max(1));
        let share = i64::from(self.share) + step;
        Self {
            in_a_row: if dead { self.in_a_row.saturating_add(1) } else { 0 },
            share: i32::try_from(share).expect("a step ends between the share and its goal"),
        }
    }
}

/// When a partition stops.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    in_a_row: i32,
    share: i32,
    window: u32,
}

/// Which limit a partition has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many in a row.
    InARow(i32),
    /// So large a share, in percent.
    Share(i32),
}

impl Limits {
    /// As the operator wants them.
    pub fn new(settings: &DeadLetterSettings) -> Self {
        let in_a_row = i32::try_from(settings.max_consecutive).unwrap_or(i32::MAX);
        #[allow(clippy::cast_possible_truncation, reason = "a ratio is between 0 and 1")]
        let share = (settings.max_ratio * f64::from(WHOLE)) as i32;
        Self {
            in_a_row: if in_a_row == 0 { i32::MAX } else { in_a_row },
            share,
            window: settings.window,
        }
    }

    /// Over how many records the share is taken.
    pub fn window(&self) -> u32 {
        self.window
    }

    /// The limit that `tally` has reached, if any: the partition stops, now and at each start, until it is cleared.
    pub fn reached(&self, tally: Tally) -> Option<Limit> {
        if tally.in_a_row >= self.in_a_row {
            Some(Limit::InARow(tally.in_a_row))
        } else if tally.share > self.share {
            Some(Limit::Share(tally.share / (WHOLE / 100)))
        } else {
            None
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow(count) => write!(f, "{count} dead letters in a row"),
            Self::Share(percent) => write!(f, "{percent} % of its latest records are dead letters"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(max_consecutive: u32, max_ratio: f64, window: u32) -> Limits {
        Limits::new(&DeadLetterSettings {
            max_consecutive,
            max_ratio,
            window,
        })
    }

    fn after(records: impl IntoIterator<Item = bool>, window: u32) -> Tally {
        records
            .into_iter()
            .fold(Tally::default(), |tally, dead| tally.after(dead, window))
    }

    #[test]
    fn so_many_in_a_row_reach_the_limit_and_one_row_between_them_does_not() {
        let limits = limits(3, 1.0, 10);
        assert_eq!(limits.reached(after([true, true], 10)), None);
        assert_eq!(limits.reached(after([true; 3], 10)), Some(Limit::InARow(3)));
        assert_eq!(limits.reached(after([true, true, false, true], 10)), None);
    }

    #[test]
    fn every_other_record_reaches_a_limit_of_a_third_but_not_of_two_thirds() {
        let half = |length| (0..length).map(|number| number % 2 == 0);
        let third = limits(0, 0.33, 100);
        assert!(matches!(
            third.reached(after(half(1_000), 100)),
            Some(Limit::Share(_))
        ));
        assert_eq!(limits(0, 0.66, 100).reached(after(half(10_000), 100)), None);
        assert_eq!(third.reached(after(half(20), 100)), None, "a few say little");
    }

    #[test]
    fn without_limits_nothing_reaches_them() {
        assert_eq!(limits(0, 1.0, 1).reached(after([true; 5_000], 1)), None);
    }

    proptest! {
        #[test]
        fn the_share_stays_between_none_and_all_and_is_the_same_after_any_restart(
            records in proptest::collection::vec(any::<bool>(), 0..300),
            window in 1_u32..100_000,
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = after(records.iter().copied(), window);
            prop_assert!((0..=WHOLE).contains(&whole.share));
            let cut = cut.index(records.len() + 1);
            let resumed = records[cut..]
                .iter()
                .fold(after(records[..cut].iter().copied(), window), |tally, dead| tally.after(*dead, window));
            prop_assert_eq!(resumed, whole);
        }
    }
}
