//! Counts the dead letters of a partition.
//!
//! Pure. The counts are a function of the log and are stored in the checkpoint, so a restart does not reset them.

/// The dead letters of a partition up to one offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterStats {
    /// Dead letters since the last record that became a row.
    pub consecutive: i32,
    /// The share of dead letters among the latest records, in parts of [`WHOLE`].
    ///
    /// An exponentially weighted average: after as many records as the window has, a record still counts for a third.
    pub ratio: i32,
}

/// A ratio of 1.
pub const WHOLE: i32 = 1_000_000_000;

impl DeadLetterStats {
    /// Returns the stats after one more record, for a window of `window` records.
    #[must_use]
    pub fn after(self, dead: bool, window: u32) -> Self {
        if !dead && self == Self::default() {
            return self;
        }
        let target = if dead { WHOLE } else { 0 };
        let step = (i64::from(target) - i64::from(self.ratio)) / i64::from(window.max(1));
        let ratio = i64::from(self.ratio) + step;
        Self {
            consecutive: if dead {
                self.consecutive.saturating_add(1)
            } else {
                0
            },
            ratio: i32::try_from(ratio).expect("a step ends between the ratio and its target"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(records: impl IntoIterator<Item = bool>, window: u32) -> DeadLetterStats {
        records
            .into_iter()
            .fold(DeadLetterStats::default(), |stats, dead| {
                stats.after(dead, window)
            })
    }

    proptest! {
        #[test]
        fn ratio_is_between_0_and_1_and_survives_any_restart(
            records in proptest::collection::vec(any::<bool>(), 0..300),
            window in 1_u32..100_000,
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = after(records.iter().copied(), window);
            prop_assert!((0..=WHOLE).contains(&whole.ratio));
            let cut = cut.index(records.len() + 1);
            let resumed = records[cut..]
                .iter()
                .fold(after(records[..cut].iter().copied(), window), |stats, dead| stats.after(*dead, window));
            prop_assert_eq!(resumed, whole);
        }
    }
}
