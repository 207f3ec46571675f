//! The active run, for observation and cancellation. Starts no run.
//!
//! A run is claimed before the store marks it as started, and released after the store marks it as ended. A caller that
//! cancels a run therefore finds it either here, or queued or ended in the store.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::run::run_progress::RunProgress;
use crate::run::run_stats::RunCounts;

/// The active run, if there is one. Clones share it.
#[derive(Clone, Default)]
pub struct ActiveRun {
    claimed: Arc<Mutex<Option<ClaimedRun>>>,
}

struct ClaimedRun {
    run: Uuid,
    /// Set once the run has started.
    progress: Option<Arc<RunProgress>>,
    cancel: CancellationToken,
}

impl ActiveRun {
    /// Claims a run that is about to start, unless it is claimed already. The returned token cancels the run; cancelling
    /// `stop` cancels it, too.
    #[must_use]
    pub fn claim(&self, run: Uuid, stop: &CancellationToken) -> CancellationToken {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claimed) = claimed.as_ref().filter(|claimed| claimed.run == run) {
            return claimed.cancel.clone();
        }
        let cancel = stop.child_token();
        *claimed = Some(ClaimedRun {
            run,
            progress: None,
            cancel: cancel.clone(),
        });
        cancel
    }

    /// Marks the claimed run as started; `progress` holds its counts.
    pub fn started(&self, progress: Arc<RunProgress>) {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claimed) = claimed.as_mut() {
            claimed.progress = Some(progress);
        }
    }

    /// Releases the claim.
    pub fn finished(&self) {
        *self.claimed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the id of the active run.
    #[must_use]
    pub fn run(&self) -> Option<Uuid> {
        self.read(|claimed| claimed.run)
    }

    /// Returns the live counts of `run` if it is active.
    #[must_use]
    pub fn counts(&self, run: Uuid) -> Option<RunCounts> {
        self.read(|claimed| {
            let progress = claimed.progress.as_ref().filter(|_| claimed.run == run);
            progress.map(|progress| progress.stats().counts())
        })
        .flatten()
    }

    /// Cancels `run` if it is active. Returns whether it is.
    #[must_use]
    pub fn cancel(&self, run: Uuid) -> bool {
        let cancelled = self.read(|claimed| {
            let is_active = claimed.run == run;
            if is_active {
                claimed.cancel.cancel();
            }
            is_active
        });
        cancelled.unwrap_or(false)
    }

    fn read<T>(&self, get: impl FnOnce(&ClaimedRun) -> T) -> Option<T> {
        let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.as_ref().map(get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claimed_run_can_be_cancelled() {
        let (active, stop, run) = (ActiveRun::default(), CancellationToken::new(), Uuid::now_v7());
        assert!(!active.cancel(run));
        let cancel = active.claim(run, &stop);
        assert_eq!((active.run(), active.counts(run)), (Some(run), None));
        assert!(!active.cancel(Uuid::now_v7()) && !cancel.is_cancelled());
        assert!(active.cancel(run));
        assert!(
            active.claim(run, &stop).is_cancelled(),
            "a second claim sees the cancellation"
        );
        active.finished();
        assert!(!active.claim(run, &stop).is_cancelled() && !stop.is_cancelled());
        stop.cancel();
        assert!(active.claim(run, &stop).is_cancelled());
    }
}
