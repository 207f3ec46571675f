//! Whether the work still moves: whoever works says by when it will be heard of again, and a liveness watch looks at
//! the clock. Knows neither runs nor schedules.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use service::Health;

/// What a promise is late by before it counts: a busy machine is no dead task.
const SLACK: Duration = Duration::from_secs(60);

/// The promise that was made last.
#[derive(Clone, Default)]
pub struct Watchdog {
    due: Arc<Mutex<Option<Instant>>>,
}

impl Watchdog {
    /// A pulse that `/healthz` watches.
    #[must_use]
    pub fn register(health: &Health) -> Self {
        let watchdog = Self::default();
        let watched = watchdog.clone();
        health.watch("runs", move || watched.check(Instant::now()));
        watchdog
    }

    /// Promises to be heard of again within `time`.
    pub fn expect_progress_within(&self, time: Duration) {
        let due = Instant::now().checked_add(time.saturating_add(SLACK));
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }

    fn check(&self, now: Instant) -> Result<(), String> {
        let due = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
        match due.map(|due| now.saturating_duration_since(due)) {
            Some(late) if !late.is_zero() => Err(format!("nothing has moved for {late:?} too long")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_a_reason_to_be_restarted() {
        let watchdog = Watchdog::default();
        let now = Instant::now();
        watchdog.check(now).unwrap();
        watchdog.expect_progress_within(Duration::from_secs(5));
        watchdog.check(now + Duration::from_secs(60)).unwrap();
        assert!(
            watchdog
                .check(now + Duration::from_secs(70))
                .unwrap_err()
                .starts_with("nothing has moved")
        );
        watchdog.expect_progress_within(Duration::from_secs(30));
        watchdog.check(now + Duration::from_secs(70)).unwrap();
    }
}
