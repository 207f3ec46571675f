//! Adapts the number of statements in flight to the server: halves it after overload and increases it slowly (AIMD,
//! as in TCP congestion control).

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// An adaptive limit on a semaphore.
#[derive(Debug)]
pub struct AdaptiveConcurrency {
    max: usize,
    permits: Semaphore,
    state: Mutex<LimitState>,
}

#[derive(Debug)]
struct LimitState {
    limit: usize,
    /// Permits to forget when they are released, because the limit was lowered while they were in use.
    debt: usize,
    /// Successes since the limit last grew.
    successes: usize,
}

/// Permission for one statement in flight.
#[derive(Debug)]
pub struct ConcurrencyPermit<'a> {
    concurrency: &'a AdaptiveConcurrency,
    permit: Option<SemaphorePermit<'a>>,
}

impl AdaptiveConcurrency {
    /// A lower limit would not show whether the server has recovered.
    const MIN: usize = 8;

    /// Creates a limit that starts at `max` and never exceeds it.
    pub fn new(max: usize) -> Self {
        let state = LimitState {
            limit: max,
            debt: 0,
            successes: 0,
        };
        Self {
            max,
            permits: Semaphore::new(max),
            state: Mutex::new(state),
        }
    }

    /// Waits for a permit.
    pub async fn acquire(&self) -> ConcurrencyPermit<'_> {
        let permit = self
            .permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        ConcurrencyPermit {
            concurrency: self,
            permit: Some(permit),
        }
    }

    /// Records a success. After as many successes as the limit, the limit grows by an eighth.
    pub fn on_success(&self) {
        let mut state = self.state();
        if state.limit == self.max {
            return;
        }
        state.successes += 1;
        if state.successes >= state.limit {
            let more = (state.limit / 8).clamp(1, self.max - state.limit);
            state.successes = 0;
            state.limit += more;
            let forgiven = more.min(state.debt);
            state.debt -= forgiven;
            self.permits.add_permits(more - forgiven);
        }
    }

    /// Records overload: halves the limit.
    pub fn on_overload(&self) {
        let mut state = self.state();
        let target = (state.limit / 2).max(Self::MIN.min(self.max));
        let fewer = state.limit - target;
        state.limit = target;
        state.successes = 0;
        state.debt += fewer - self.permits.forget_permits(fewer);
    }

    /// The current limit.
    pub fn limit(&self) -> usize {
        self.state().limit
    }

    fn state(&self) -> MutexGuard<'_, LimitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConcurrencyPermit<'_> {
    fn drop(&mut self) {
        let mut state = self.concurrency.state();
        if state.debt > 0 {
            state.debt -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn overload_halves_the_limit_and_successes_restore_it() {
        let concurrency = AdaptiveConcurrency::new(64);
        concurrency.on_overload();
        assert_eq!(
            (concurrency.limit(), concurrency.permits.available_permits()),
            (32, 32)
        );
        for _ in 0..2_000 {
            concurrency.on_success();
        }
        assert_eq!(
            (concurrency.limit(), concurrency.permits.available_permits()),
            (64, 64)
        );
    }

    #[tokio::test]
    async fn permits_in_use_are_forgotten_on_release() {
        let concurrency = AdaptiveConcurrency::new(16);
        let mut out = Vec::new();
        for _ in 0..16 {
            out.push(concurrency.acquire().await);
        }
        concurrency.on_overload();
        assert_eq!(concurrency.limit(), 8);
        drop(out);
        assert_eq!(concurrency.permits.available_permits(), 8);
    }

    #[tokio::test]
    async fn limit_never_falls_below_the_minimum() {
        let concurrency = AdaptiveConcurrency::new(64);
        for _ in 0..100 {
            concurrency.on_overload();
        }
        assert_eq!(concurrency.limit(), AdaptiveConcurrency::MIN);
        drop(concurrency.acquire().await);
    }
}
