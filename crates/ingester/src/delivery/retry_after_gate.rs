//! How long the publisher asked to be left alone: what one request is told holds for all. Decides nothing else.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Until when nothing is to be sent.
#[derive(Debug, Default)]
pub struct RetryAfterGate(Mutex<Option<Instant>>);

impl RetryAfterGate {
    /// It asked for so long a pause from now on. An earlier wish that lasts longer still holds.
    pub fn extend(&self, wait: Duration) {
        let until = Instant::now().checked_add(wait);
        let mut known = self.lock();
        *known = (*known).max(until);
    }

    /// Returns when nobody asks for a pause any more.
    pub async fn wait(&self) {
        loop {
            let until = (*self.lock()).filter(|until| *until > Instant::now());
            match until {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }

    /// A panic elsewhere leaves a plain time behind.
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_wish_holds_and_one_that_comes_meanwhile_is_heard() {
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
}
