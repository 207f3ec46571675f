//! When runs start: every interval from the first start, and again some time after a failure. Pure: the time is an
//! argument. It neither waits nor runs anything.

use std::time::Duration;

use jiff::Timestamp;

use crate::settings::ScheduleSettings;

/// A rule for starts.
#[derive(Clone, Debug)]
pub struct Schedule {
    interval: Duration,
    retries: u32,
    retry_delay: Duration,
}

/// A start to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// When.
    pub at: Timestamp,
    /// The regular start that this is, or that this is a retry of.
    pub scheduled: Timestamp,
    /// 0 for a regular start, then the number of the retry.
    pub retry: u32,
}

impl Schedule {
    /// The rule that the settings describe.
    #[must_use]
    pub fn new(settings: &ScheduleSettings) -> Self {
        Self {
            interval: settings.interval,
            retries: settings.retries,
            retry_delay: settings.retry_delay,
        }
    }

    /// The first start: at once.
    #[must_use]
    pub fn first(&self, now: Timestamp) -> Start {
        Start {
            at: now,
            scheduled: now,
            retry: 0,
        }
    }

    /// The start after `last`, whose run is over at `now`. Regular starts that passed meanwhile are left out: runs
    /// don't overlap and don't queue. A retry that would come at or after the next regular start is that start.
    #[must_use]
    pub fn next(&self, last: &Start, failed: bool, now: Timestamp) -> Start {
        let regular = self.regular_after(last.scheduled, now);
        let retry_at = later(now, self.retry_delay);
        if failed && last.retry < self.retries && retry_at < regular {
            return Start {
                at: retry_at,
                scheduled: last.scheduled,
                retry: last.retry + 1,
            };
        }
        Start {
            at: regular,
            scheduled: regular,
            retry: 0,
        }
    }

    /// The first regular start after `now`, counted in intervals from `scheduled`. A clock that was set back below
    /// `scheduled` starts the count anew.
    fn regular_after(&self, scheduled: Timestamp, now: Timestamp) -> Timestamp {
        let interval = i128::try_from(self.interval.as_nanos().max(1)).unwrap_or(i128::MAX);
        let since = now.as_nanosecond() - scheduled.as_nanosecond();
        if since < 0 {
            return later(now, self.interval);
        }
        let ahead = interval - since % interval;
        Timestamp::from_nanosecond(now.as_nanosecond().saturating_add(ahead)).unwrap_or(Timestamp::MAX)
    }
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule() -> Schedule {
        Schedule::new(&ScheduleSettings {
            interval: Duration::from_secs(100),
            retries: 1,
            retry_delay: Duration::from_secs(10),
        })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn regular(second: i64) -> Start {
        schedule().first(at(second))
    }

    #[test]
    fn runs_start_at_once_and_then_from_start_to_start() {
        let first = schedule().first(at(1_000));
        assert_eq!(first, regular(1_000));
        assert_eq!(schedule().next(&first, false, at(1_030)), regular(1_100));
    }

    #[test]
    fn starts_that_a_long_run_missed_are_left_out() {
        assert_eq!(schedule().next(&regular(1_000), false, at(1_250)), regular(1_300));
        assert_eq!(schedule().next(&regular(1_000), false, at(1_300)), regular(1_400));
    }

    #[test]
    fn a_failed_run_is_tried_again_as_often_as_allowed_and_keeps_the_rhythm() {
        let retry = schedule().next(&regular(1_000), true, at(1_005));
        let expected = Start {
            at: at(1_015),
            scheduled: at(1_000),
            retry: 1,
        };
        assert_eq!(retry, expected);
        assert_eq!(schedule().next(&retry, true, at(1_020)), regular(1_100));
    }

    #[test]
    fn a_retry_gives_way_to_the_regular_start() {
        assert_eq!(schedule().next(&regular(1_000), true, at(1_095)), regular(1_100));
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_runs() {
        assert_eq!(schedule().next(&regular(1_000), false, at(10)), regular(110));
    }

    proptest! {
        #[test]
        fn the_next_start_lies_ahead_and_no_further_than_the_interval(
            scheduled in 0_i64..4_000_000_000, took in 0_i64..10_000_000, interval in 1_u64..10_000_000,
            retries in 0_u32..3, retry in 0_u32..3, delay in 0_u64..10_000_000, failed: bool,
        ) {
            let schedule = Schedule {
                interval: Duration::from_secs(interval), retries, retry_delay: Duration::from_secs(delay),
            };
            let last = Start { at: at(scheduled), scheduled: at(scheduled), retry };
            let now = at(scheduled + took);
            let next = schedule.next(&last, failed, now);
            prop_assert!(next.at >= now);
            prop_assert!(next.retry > 0 || next.at > now);
            prop_assert!(next.at <= later(now, schedule.interval));
            prop_assert!(next.retry <= retries);
        }
    }
}
