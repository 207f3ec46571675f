//! The remaining time to live of a row: `cassandra.row_ttl` after the publisher accepted its record.
//!
//! Writing a row again never extends its life. An expired row is written as a deletion. Pure. Every write attempt
//! computes the value again, because it may come hours after the first one.

use std::time::Duration;

/// Cassandra's maximum time to live: 20 years.
pub const MAX_TTL: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// The configured time to live of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowTtl {
    millis: Option<i64>,
}

/// The remaining time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemainingTtl {
    /// The row never expires.
    Unlimited,
    /// Seconds until the row expires, at least one.
    Seconds(i32),
    /// The row has expired.
    Expired,
}

impl RowTtl {
    /// Rows live for `row_ttl`, or forever.
    pub fn new(row_ttl: Option<Duration>) -> Self {
        Self {
            millis: row_ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// Returns when a row accepted at `accepted_at` expires. In milliseconds since 1970.
    pub fn expires_at(self, accepted_at: i64) -> Option<i64> {
        self.millis.map(|millis| accepted_at.saturating_add(millis))
    }

    /// Returns the remaining time to live at `now`. In milliseconds since 1970.
    ///
    /// A row accepted in the future, by a wrong clock, does not live longer than one accepted now. Cassandra counts whole
    /// seconds by its own clock. The result is rounded down, and less than a second counts as
    /// expired, because a time to live of 0 means unlimited.
    pub fn remaining(self, accepted_at: i64, now: i64) -> RemainingTtl {
        let Some(end) = self.expires_at(accepted_at.min(now)) else {
            return RemainingTtl::Unlimited;
        };
        match end.saturating_sub(now).div_euclid(1_000) {
            seconds @ 1.. => RemainingTtl::Seconds(i32::try_from(seconds).expect("20 years of seconds")),
            _ => RemainingTtl::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: RowTtl = RowTtl {
        millis: Some(3_600_000),
    };

    #[test]
    fn elapsed_time_is_subtracted_until_the_row_expires() {
        assert_eq!(RowTtl::default().remaining(0, i64::MAX), RemainingTtl::Unlimited);
        assert_eq!(HOUR.remaining(1_000, 1_000), RemainingTtl::Seconds(3_600));
        assert_eq!(HOUR.remaining(0, 1_800_001), RemainingTtl::Seconds(1_799));
        assert_eq!(HOUR.remaining(0, 3_599_000), RemainingTtl::Seconds(1));
        assert_eq!(
            HOUR.remaining(0, 3_599_001),
            RemainingTtl::Expired,
            "not a time to live of 0, which is unlimited"
        );
        assert_eq!(HOUR.remaining(0, i64::MAX), RemainingTtl::Expired);
    }

    #[test]
    fn row_of_the_future_lives_as_long_as_one_of_now() {
        assert_eq!(HOUR.remaining(i64::MAX, 0), RemainingTtl::Seconds(3_600));
    }

    proptest! {
        #[test]
        fn later_write_never_extends_the_life_of_a_row(
            row_ttl in 0..100_000_000_i64,
            accepted_at in 0..2_000_000_000_000_i64,
            first in 0..4_000_000_000_000_i64,
            later in 0..4_000_000_000_000_i64,
        ) {
            let row_ttl = RowTtl { millis: Some(row_ttl) };
            let end = row_ttl.expires_at(accepted_at).unwrap();
            for now in [first, first.saturating_add(later)] {
                match row_ttl.remaining(accepted_at, now) {
                    RemainingTtl::Unlimited => prop_assert!(false, "the row expires"),
                    RemainingTtl::Seconds(seconds) => {
                        let ends = now + i64::from(seconds) * 1_000;
                        prop_assert!(seconds >= 1 && ends <= end && (end - ends < 1_000 || now < accepted_at));
                    }
                    RemainingTtl::Expired => prop_assert!(end - now < 1_000),
                }
            }
        }
    }
}
