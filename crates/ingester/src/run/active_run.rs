//! The run under way, for those who want to watch or to end it. Starts nothing.
//!
//! A run is claimed before the state says that it began and let go after the state says how it ended, so that whoever
//! wants to end it meets it either here or as one that waits or is over, and never in between.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::run::run_progress::RunProgress;
use crate::run::run_stats::Counts;

/// The run under way, if one is. Clones watch the same.
#[derive(Clone, Default)]
pub struct ActiveRun {
    running: Arc<Mutex<Option<ClaimedRun>>>,
}

struct ClaimedRun {
    run: Uuid,
    /// Its counts, once it has begun.
    progress: Option<Arc<RunProgress>>,
    cancel: CancellationToken,
}

impl ActiveRun {
    /// A run is about to begin, unless it was claimed before. It ends with the token that comes back, which also a
    /// cancelled `stop` cancels.
    #[must_use]
    pub fn claim(&self, run: Uuid, stop: &CancellationToken) -> CancellationToken {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claimed) = running.as_ref().filter(|running| running.run == run) {
            return claimed.cancel.clone();
        }
        let cancel = stop.child_token();
        *running = Some(ClaimedRun {
            run,
            progress: None,
            cancel: cancel.clone(),
        });
        cancel
    }

    /// The run that was claimed began, and counts in `ledger`.
    pub fn started(&self, progress: Arc<RunProgress>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.as_mut() {
            running.progress = Some(progress);
        }
    }

    /// It is over.
    pub fn finished(&self) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Which run is under way.
    #[must_use]
    pub fn run(&self) -> Option<Uuid> {
        self.read(|running| running.run)
    }

    /// The counts of this run, if it is under way.
    #[must_use]
    pub fn counts(&self, run: Uuid) -> Option<Counts> {
        self.read(|running| {
            let progress = running.progress.as_ref().filter(|_| running.run == run);
            progress.map(|progress| progress.stats().counts())
        })
        .flatten()
    }

    /// Ends this run cleanly, if it is under way; says whether it is.
    #[must_use]
    pub fn cancel(&self, run: Uuid) -> bool {
        let cancelled = self.read(|running| {
            let is_it = running.run == run;
            if is_it {
                running.cancel.cancel();
            }
            is_it
        });
        cancelled.unwrap_or(false)
    }

    fn read<T>(&self, look: impl FnOnce(&ClaimedRun) -> T) -> Option<T> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_can_be_ended_from_the_moment_on_that_it_is_claimed() {
        let (current, stop, run) = (ActiveRun::default(), CancellationToken::new(), Uuid::now_v7());
        assert!(!current.cancel(run));
        let cancel = current.claim(run, &stop);
        assert_eq!((current.run(), current.counts(run)), (Some(run), None));
        assert!(!current.cancel(Uuid::now_v7()) && !cancel.is_cancelled());
        assert!(current.cancel(run));
        assert!(
            current.claim(run, &stop).is_cancelled(),
            "who claims it again is told"
        );
        current.finished();
        assert!(!current.claim(run, &stop).is_cancelled() && !stop.is_cancelled());
        stop.cancel();
        assert!(current.claim(run, &stop).is_cancelled());
    }
}
