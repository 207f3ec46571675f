//! Logs each dead letter with its place and reason, and never a value. A burst is limited, and the rest is counted.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use service::LogLimiter;

/// Dead letters that are logged in a minute.
const MAX_LINES: u32 = 10;

/// Logs dead letters.
#[derive(Debug)]
pub struct DeadLetterLog(Mutex<LogLimiter>);

impl Default for DeadLetterLog {
    fn default() -> Self {
        Self(Mutex::new(LogLimiter::per_minute(MAX_LINES)))
    }
}

impl DeadLetterLog {
    /// Logs a dead letter that is acknowledged.
    pub fn written(&self, partition: i32, offset: i64, reason: &'static str) {
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

    fn limiter(&self) -> std::sync::MutexGuard<'_, LogLimiter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
