//! Logs each dead letter with its place and reason, and never a value. A burst is limited, and the rest is counted. Keeps
//! the recent ones for the status document.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use service::LogLimiter;

use crate::dead_letters::recent::{DeadLettersSection, RecentDeadLetter, RecentDeadLetters};

/// Dead letters that are logged in a minute.
const MAX_LINES: u32 = 10;

/// Logs dead letters.
#[derive(Debug)]
pub struct DeadLetterLog {
    limiter: Mutex<LogLimiter>,
    recent: Mutex<RecentDeadLetters>,
}

impl Default for DeadLetterLog {
    fn default() -> Self {
        Self {
            limiter: Mutex::new(LogLimiter::per_minute(MAX_LINES)),
            recent: Mutex::default(),
        }
    }
}

impl DeadLetterLog {
    /// Logs a dead letter that is acknowledged.
    pub fn written(&self, partition: i32, offset: i64, reason: &'static str) {
        let letter = RecentDeadLetter {
            partition,
            offset,
            reason,
            at: Timestamp::now(),
        };
        self.recent().add(letter, Instant::now());
        self.log_left_out();
        if self.limiter().admit(Instant::now()) {
            tracing::warn!(partition, offset, reason, "record is a dead letter");
        }
    }

    /// Logs the number of dead letters that the last minute left out.
    pub fn log_left_out(&self) {
        if let Some(left_out) = self.limiter().take_left_out(Instant::now()) {
            tracing::warn!(left_out, "more records are dead letters");
        }
    }

    /// The dead letters of the last day, for the status document.
    pub fn section(&self) -> DeadLettersSection {
        self.recent().section(Instant::now())
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, RecentDeadLetters> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limiter(&self) -> std::sync::MutexGuard<'_, LogLimiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
