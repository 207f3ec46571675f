//! Applies the publisher's `Retry-After` to all requests of a run.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Longest wait that a response can request. The publisher requests seconds; the longer waits of gateways are cut, so that
/// a run notices the end of an outage.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Time before which no request is sent.
#[derive(Debug, Default)]
pub struct RetryAfterGate(Mutex<Option<Instant>>);

impl RetryAfterGate {
    /// Closes the gate for `wait` from now, five minutes at most. A later time that is already set remains.
    pub fn extend(&self, wait: Duration) {
        let until = Instant::now().checked_add(wait.min(MAX_WAIT));
        let mut current = self.lock();
        *current = (*current).max(until);
    }

    /// Opens the gate.
    pub fn open(&self) {
        *self.lock() = None;
    }

    /// Waits until the gate is open.
    pub async fn wait(&self) {
        loop {
            let until = (*self.lock()).filter(|until| *until > Instant::now());
            match until {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }

    /// Ignores poisoning: the gate holds a plain time.
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn longest_wait_applies_even_when_set_during_a_wait() {
        let (gate, started) = (RetryAfterGate::default(), Instant::now());
        gate.wait().await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        gate.extend(Duration::from_secs(5));
        gate.extend(Duration::from_secs(2));
        let later = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            gate.extend(Duration::from_secs(6));
        };
        tokio::join!(gate.wait(), later);
        assert_eq!(started.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn wait_is_bounded() {
        for requested in [MAX_WAIT, MAX_WAIT * 2, Duration::from_secs(u64::MAX)] {
            let (gate, started) = (RetryAfterGate::default(), Instant::now());
            gate.extend(requested);
            gate.wait().await;
            assert_eq!(started.elapsed(), MAX_WAIT, "{requested:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn opened_gate_waits_no_longer() {
        let (gate, started) = (RetryAfterGate::default(), Instant::now());
        gate.extend(MAX_WAIT);
        gate.open();
        gate.wait().await;
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
