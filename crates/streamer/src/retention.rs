//! How long a row lives: `cassandra.row_ttl` from when the publisher took its record, so that writing it again, however
//! late, never prolongs its life. What is past it already is a deletion.
//!
//! Pure. The time to live is taken anew for every attempt to write, since an attempt may be hours after the first.

use std::time::Duration;

/// Cassandra takes no longer time to live: 20 years.
pub const LONGEST: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// How long rows live, if not for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    millis: Option<i64>,
}

/// What is to be written of a row now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The row, without an end.
    Endless,
    /// The row, for so many seconds more: at least one.
    Seconds(i32),
    /// Its deletion.
    Over,
}

impl Retention {
    /// Rows live `row_ttl` long, or for ever.
    pub fn new(row_ttl: Option<Duration>) -> Self {
        Self {
            millis: row_ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// Whether rows have an end at all.
    pub fn is_bounded(self) -> bool {
        self.millis.is_some()
    }

    /// When a row whose record was taken at `accepted_at` ends; none: never. In milliseconds since 1970.
    pub fn end(self, accepted_at: i64) -> Option<i64> {
        self.millis.map(|millis| accepted_at.saturating_add(millis))
    }

    /// What is left of it at `now`. In milliseconds since 1970.
    ///
    /// Cassandra counts whole seconds from its own clock: what is left is rounded down, and less than one is none, for
    /// a time to live of 0 would be no end at all.
    pub fn left(self, accepted_at: i64, now: i64) -> Life {
        let Some(end) = self.end(accepted_at) else {
            return Life::Endless;
        };
        let longest = i64::try_from(LONGEST.as_secs()).unwrap_or(i64::MAX);
        match end.saturating_sub(now).div_euclid(1_000).min(longest) {
            seconds @ 1.. => Life::Seconds(i32::try_from(seconds).expect("20 years of seconds")),
            _ => Life::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Retention = Retention {
        millis: Some(3_600_000),
    };

    #[test]
    fn the_elapsed_time_is_taken_off_and_what_is_past_is_over() {
        assert_eq!(Retention::default().left(0, i64::MAX), Life::Endless);
        assert_eq!(HOUR.left(1_000, 1_000), Life::Seconds(3_600));
        assert_eq!(HOUR.left(0, 1_800_001), Life::Seconds(1_799));
        assert_eq!(HOUR.left(0, 3_599_000), Life::Seconds(1));
        assert_eq!(
            HOUR.left(0, 3_599_001),
            Life::Over,
            "not a time to live of 0, which has no end"
        );
        assert_eq!(HOUR.left(0, i64::MAX), Life::Over);
    }

    #[test]
    fn a_clock_that_is_centuries_ahead_gives_what_cassandra_takes() {
        let Life::Seconds(most) = HOUR.left(i64::MAX, 0) else {
            panic!("it lives")
        };
        assert_eq!(u64::try_from(most).unwrap(), LONGEST.as_secs());
    }

    proptest! {
        #[test]
        fn no_later_write_ends_later(
            row_ttl in 0..100_000_000_i64,
            accepted_at in 0..2_000_000_000_000_i64,
            first in 0..4_000_000_000_000_i64,
            later in 0..4_000_000_000_000_i64,
        ) {
            let retention = Retention { millis: Some(row_ttl) };
            let end = retention.end(accepted_at).unwrap();
            for now in [first, first.saturating_add(later)] {
                match retention.left(accepted_at, now) {
                    Life::Endless => prop_assert!(false, "it has an end"),
                    Life::Seconds(seconds) => {
                        let ends = now + i64::from(seconds) * 1_000;
                        prop_assert!(seconds >= 1 && ends <= end && (end - ends < 1_000 || seconds > 600_000_000));
                    }
                    Life::Over => prop_assert!(end - now < 1_000),
                }
            }
        }
    }
}
