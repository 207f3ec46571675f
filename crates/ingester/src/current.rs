//! The run under way, for those who want to watch or to end it. Starts nothing.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ledger::Ledger;
use crate::tally::Counts;

/// The run under way, if one is. Clones watch the same.
#[derive(Clone, Default)]
pub struct Current {
    running: Arc<Mutex<Option<Running>>>,
}

struct Running {
    ledger: Arc<Ledger>,
    cancel: CancellationToken,
}

impl Current {
    /// A run began; cancelling `cancel` ends it.
    pub fn began(&self, ledger: Arc<Ledger>, cancel: CancellationToken) {
        self.set(Some(Running { ledger, cancel }));
    }

    /// It is over.
    pub fn ended(&self) {
        self.set(None);
    }

    /// Which run is under way.
    #[must_use]
    pub fn run(&self) -> Option<Uuid> {
        self.with(|running| running.ledger.run())
    }

    /// The counts of this run, if it is under way.
    #[must_use]
    pub fn counts(&self, run: Uuid) -> Option<Counts> {
        self.with(|running| (running.ledger.run() == run).then(|| running.ledger.tally().counts()))
            .flatten()
    }

    /// Ends this run cleanly, if it is under way; says whether it is.
    #[must_use]
    pub fn cancel(&self, run: Uuid) -> bool {
        let cancelled = self.with(|running| {
            let is_it = running.ledger.run() == run;
            if is_it {
                running.cancel.cancel();
            }
            is_it
        });
        cancelled.unwrap_or(false)
    }

    fn set(&self, running: Option<Running>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    fn with<T>(&self, look: impl FnOnce(&Running) -> T) -> Option<T> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map(look)
    }
}
