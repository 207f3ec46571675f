//! The active run, for observation and cancellation. Starts no run.
//!
//! A run is claimed before the store marks it as started, and released after the store marks it as ended. A caller that
//! cancels a run therefore finds it either here, or queued or ended in the store.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::run::run_progress::RunProgress;
use crate::run::run_stats::{FetchWait, RunCounts, RunStats};

/// The active run, if there is one. Clones share it.
#[derive(Clone, Default)]
pub struct ActiveRun {
    claimed: Arc<Mutex<Option<ClaimedRun>>>,
}

struct ClaimedRun {
    run: Uuid,
    /// Set once the run has started.
    progress: Option<Arc<RunProgress>>,
    tokens: RunTokens,
}

/// Tokens that end a run.
#[derive(Clone, Debug)]
pub struct RunTokens {
    /// Fetch no more and deliver what is fetched: on request, or because the process stops.
    pub cancel: CancellationToken,
    /// Cancelled on request.
    pub requested: CancellationToken,
    /// End at once, on request.
    pub drop: CancellationToken,
}

impl ActiveRun {
    /// Claims a run that is about to start, unless it is claimed already. The returned tokens end the run; cancelling `stop`
    /// ends it, too.
    #[must_use]
    pub fn claim(&self, run: Uuid, stop: &CancellationToken) -> RunTokens {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claimed) = claimed.as_ref().filter(|claimed| claimed.run == run) {
            return claimed.tokens.clone();
        }
        let tokens = RunTokens {
            cancel: stop.child_token(),
            requested: CancellationToken::new(),
            drop: CancellationToken::new(),
        };
        *claimed = Some(ClaimedRun {
            run,
            progress: None,
            tokens: tokens.clone(),
        });
        tokens
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
        self.stats(run, RunStats::counts)
    }

    /// Returns why the next request of `run` to the API waits, if it does.
    #[must_use]
    pub fn fetch_wait(&self, run: Uuid) -> Option<FetchWait> {
        self.stats(run, RunStats::fetch_wait).flatten()
    }

    fn stats<T>(&self, run: Uuid, get: impl FnOnce(&RunStats) -> T) -> Option<T> {
        self.read(|claimed| {
            let progress = claimed.progress.as_ref().filter(|_| claimed.run == run);
            progress.map(|progress| get(progress.stats()))
        })
        .flatten()
    }

    /// Cancels `run` if it is active. With `drop_pending` it ends at once.
    pub fn cancel(&self, run: Uuid, drop_pending: bool) {
        self.read(|claimed| {
            if claimed.run == run {
                claimed.tokens.cancel(drop_pending);
            }
        });
    }

    fn read<T>(&self, get: impl FnOnce(&ClaimedRun) -> T) -> Option<T> {
        let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.as_ref().map(get)
    }
}

impl RunTokens {
    /// Cancels the run on request.
    pub fn cancel(&self, drop_pending: bool) {
        self.requested.cancel();
        self.cancel.cancel();
        if drop_pending {
            self.drop.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claimed_run_can_be_cancelled() {
        let (active, stop, run) = (ActiveRun::default(), CancellationToken::new(), Uuid::now_v7());
        active.cancel(run, true);
        let tokens = active.claim(run, &stop);
        assert_eq!((active.run(), active.counts(run)), (Some(run), None));
        active.cancel(Uuid::now_v7(), true);
        assert!(!tokens.cancel.is_cancelled() && !tokens.requested.is_cancelled());
        active.cancel(run, false);
        let again = active.claim(run, &stop);
        assert!(
            again.cancel.is_cancelled() && again.requested.is_cancelled(),
            "a second claim sees it"
        );
        assert!(!again.drop.is_cancelled());
        active.cancel(run, true);
        assert!(tokens.drop.is_cancelled());
        active.finished();
        assert!(!active.claim(run, &stop).cancel.is_cancelled() && !stop.is_cancelled());
        stop.cancel();
        let stopped = active.claim(run, &stop);
        assert!(stopped.cancel.is_cancelled() && !stopped.requested.is_cancelled());
    }
}
