//! Limits repeated log lines, so that an outage or a wrong producer does not fill the log.
//!
//! Pure. The caller logs the lines.

use std::time::{Duration, Instant};

/// The interval of all limits.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Admits a number of lines in each minute and counts the others.
#[derive(Debug)]
pub struct LogLimiter {
    max: u32,
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LogLimiter {
    /// Admits at most `max` lines a minute.
    #[must_use]
    pub const fn per_minute(max: u32) -> Self {
        Self {
            max,
            began: None,
            lines: 0,
            left_out: 0,
        }
    }

    /// Whether one more line may be logged. Call [`take_left_out`](Self::take_left_out) before.
    pub fn admit(&mut self, now: Instant) -> bool {
        if self.began.is_none_or(|began| now - began >= INTERVAL) {
            self.began = Some(now);
            self.lines = 0;
        }
        let admitted = self.lines < self.max;
        if admitted {
            self.lines += 1;
        } else {
            self.left_out += 1;
        }
        admitted
    }

    /// Returns the number of lines that were left out, once, after the end of their minute.
    pub fn take_left_out(&mut self, now: Instant) -> Option<u64> {
        let is_over = self.began.is_some_and(|began| now - began >= INTERVAL);
        (is_over && self.left_out > 0).then(|| std::mem::take(&mut self.left_out))
    }
}

/// Decides which changes of a dependency's state are logged: each outage and each return, and another reason at most once a
/// minute.
#[derive(Debug, Default)]
pub(crate) struct OutageLog {
    logged: Option<(Instant, Option<String>)>,
}

impl OutageLog {
    /// Whether the state is logged. It is ready if there is no `reason`.
    pub(crate) fn admit(&mut self, reason: Option<&str>, now: Instant) -> bool {
        let admitted = match (&self.logged, reason) {
            (None, _) | (Some((_, None)), Some(_)) | (Some((_, Some(_))), None) => true,
            (Some((_, None)), None) => false,
            (Some((at, Some(logged))), Some(reason)) => logged != reason && now - *at >= INTERVAL,
        };
        if admitted {
            self.logged = Some((now, reason.map(str::to_owned)));
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn lines_over_the_limit_are_counted_and_reported_once() {
        let (mut limiter, start) = (LogLimiter::per_minute(2), Instant::now());
        let admitted: Vec<_> = (0..5)
            .map(|number| limiter.admit(start + number * SECOND))
            .collect();
        assert_eq!(admitted, [true, true, false, false, false]);
        assert_eq!(limiter.take_left_out(start + 59 * SECOND), None);
        assert_eq!(limiter.take_left_out(start + 60 * SECOND), Some(3));
        assert_eq!(limiter.take_left_out(start + 61 * SECOND), None);
        assert!(limiter.admit(start + 61 * SECOND));
    }

    #[test]
    fn outage_and_return_are_logged_and_reasons_once_a_minute() {
        let (mut log, start) = (OutageLog::default(), Instant::now());
        let mut admit = |second: u32, reason| log.admit(reason, start + second * SECOND);
        assert!(admit(0, Some("refused")));
        assert!(!admit(2, Some("timed out")) && !admit(4, Some("refused")));
        assert!(admit(60, Some("timed out")) && !admit(62, Some("refused")));
        assert!(admit(63, None) && !admit(65, None));
        assert!(admit(66, Some("timed out")), "another outage");
    }

    #[test]
    fn last_reason_of_an_outage_is_logged_a_minute_later() {
        let (mut log, start) = (OutageLog::default(), Instant::now());
        assert!(log.admit(Some("refused"), start));
        assert!(!log.admit(Some("no leader"), start + SECOND));
        assert!(log.admit(Some("no leader"), start + INTERVAL));
    }
}
