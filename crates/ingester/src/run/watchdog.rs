//! Liveness watchdog: the worker announces its next sign of progress, and `/healthz` fails when it is overdue.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use service::Health;

/// Tolerated delay, so that a busy machine is not reported as dead.
const SLACK: Duration = Duration::from_secs(60);

/// Deadline of the next progress.
#[derive(Clone, Default)]
pub struct Watchdog {
    deadline: Arc<Mutex<Option<Instant>>>,
}

impl Watchdog {
    /// Creates a watchdog that `/healthz` checks.
    #[must_use]
    pub fn register(health: &Health) -> Self {
        let watchdog = Self::default();
        let watched = watchdog.clone();
        health.watch("runs", move || watched.check(Instant::now()));
        watchdog
    }

    /// Sets the deadline of the next progress.
    pub fn expect_progress_within(&self, time: Duration) {
        let deadline = Instant::now().checked_add(time.saturating_add(SLACK));
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    fn check(&self, now: Instant) -> Result<(), String> {
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        match deadline.map(|deadline| now.saturating_duration_since(deadline)) {
            Some(overdue) if !overdue.is_zero() => Err(format!("no progress; overdue by {overdue:?}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_deadline_fails_liveness() {
        let watchdog = Watchdog::default();
        let now = Instant::now();
        watchdog.check(now).unwrap();
        watchdog.expect_progress_within(Duration::from_secs(5));
        watchdog.check(now + Duration::from_secs(60)).unwrap();
        assert!(
            watchdog
                .check(now + Duration::from_secs(70))
                .unwrap_err()
                .starts_with("no progress")
        );
        watchdog.expect_progress_within(Duration::from_secs(30));
        watchdog.check(now + Duration::from_secs(70)).unwrap();
    }
}
