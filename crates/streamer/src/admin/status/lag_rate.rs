//! How fast the lag changes between two requests, and when it is 0. Pure.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The rate of all partitions together.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct LagRate {
    /// Records between the checkpoints and the ends of the log.
    lag: i64,
    /// Records that became durable per second.
    records_per_second: f64,
    /// Seconds until the lag is 0 if both rates stay; `None` if it does not fall.
    seconds_to_zero: Option<f64>,
}

impl LagRate {
    /// Compares two pairs of lag and read records. `elapsed` is the time between them.
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    pub(super) fn new(before: (i64, i64), now: (i64, i64), elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let per_second = |records: i64| records as f64 / seconds;
        let lag = now.0;
        let falls = per_second(before.0 - lag);
        Self {
            lag,
            // A replay moves checkpoints back.
            records_per_second: per_second(now.1 - before.1).max(0.0),
            seconds_to_zero: match lag {
                0 => Some(0.0),
                _ => (falls > 0.0).then(|| lag as f64 / falls),
            },
        }
    }
}

impl fmt::Display for LagRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lag {:>10}  {:>8.0} records/s  ",
            self.lag, self.records_per_second
        )?;
        match self.seconds_to_zero {
            Some(seconds) if self.lag > 0 => write!(f, "{seconds:.0} s to lag 0"),
            Some(_) => f.write_str("caught up"),
            None => f.write_str("the lag does not fall"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELAPSED: Duration = Duration::from_secs(2);

    #[test]
    fn time_to_zero_counts_records_that_arrive_meanwhile() {
        // 400 records became durable and 200 arrived.
        let rate = LagRate::new((1_000, 0), (800, 400), ELAPSED);
        assert_eq!(
            rate.to_string(),
            "lag        800       200 records/s  8 s to lag 0"
        );
        let grows = LagRate::new((1_000, 0), (1_001, 400), ELAPSED);
        assert_eq!((grows.seconds_to_zero, grows.records_per_second), (None, 200.0));
        assert!(grows.to_string().ends_with("the lag does not fall"));
    }

    #[test]
    fn lag_0_is_caught_up_and_a_replay_is_no_negative_rate() {
        let rate = LagRate::new((0, 400), (0, 400), ELAPSED);
        assert!(rate.to_string().ends_with("caught up"));
        assert_eq!(LagRate::new((0, 400), (400, 0), ELAPSED).records_per_second, 0.0);
    }
}
