//! Queue of requested runs: stores a run if there is room for it, and wakes the scheduler. Executes none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::IngesterSettings;
use crate::run::active_run::ActiveRun;
use crate::run::plan::{MAX_USERS, PageRange, Seed};
use crate::run::run_stats::FetchWait;
use crate::run::{Run, RunSpec, RunState, Trigger};
use crate::store::{Store, StoreError};

/// Parameters of a requested run. The settings supply those that are absent.
#[derive(Clone, Debug, Default)]
pub struct RunRequest {
    /// Number of users.
    pub users: Option<u64>,
    /// Seed.
    pub seed: Option<Seed>,
    /// Pages of the seed.
    pub pages: Option<PageRange>,
}

impl RunRequest {
    /// Combines the request with the settings.
    #[must_use]
    pub fn spec(&self, trigger: Trigger, settings: &IngesterSettings) -> RunSpec {
        let seed = self.seed.as_ref().or(settings.run.seed.as_ref()).cloned();
        RunSpec {
            trigger,
            scheduled: None,
            seed: seed.unwrap_or_else(Seed::random),
            users: self.users.unwrap_or(settings.run.users),
            page_size: settings.source.page_size,
            pages: self.pages,
            retry: 0,
            requested_by: None,
        }
    }

    /// Whether `spec` satisfies the request. A request without a seed matches any seed.
    #[must_use]
    pub fn matches(&self, spec: &RunSpec, settings: &IngesterSettings) -> bool {
        let wanted = self.spec(spec.trigger, settings);
        let seed = self.seed.as_ref().or(settings.run.seed.as_ref());
        let seed_fits = seed.is_none_or(|seed| *seed == spec.seed);
        seed_fits && (wanted.users, wanted.pages) == (spec.users, spec.pages)
    }
}

/// Maximum number of runs that are queued or running when a run is requested.
pub const MAX_UNFINISHED_RUNS: usize = 10;

/// Why a requested run can't succeed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidRequest {
    /// The requested pages contain no users.
    #[error("the requested pages contain no users")]
    NoUsers,
    /// The run has more users than any.
    #[error("a run has at most {MAX_USERS} users")]
    TooManyUsers,
    /// The rate limit makes the run exceed its timeout.
    #[error(
        "{users} users take {} at source.rate_limit, but run.timeout is {}",
        service::duration::format(*.expected),
        service::duration::format(*.timeout)
    )]
    TooLong {
        /// Number of users.
        users: u64,
        /// The time that the rate limit takes.
        expected: Duration,
        /// `run.timeout`.
        timeout: Duration,
    },
}

impl InvalidRequest {
    /// Checks a run before it is stored or started.
    ///
    /// # Errors
    /// Returns why the run can't succeed.
    pub fn check(spec: &RunSpec, settings: &IngesterSettings) -> Result<(), Self> {
        let users = spec.plan().users();
        if users == 0 {
            return Err(Self::NoUsers);
        }
        if spec.users > MAX_USERS {
            return Err(Self::TooManyUsers);
        }
        let expected = settings.source.rate_limit.min_duration(users, spec.page_size);
        let timeout = settings.run.timeout;
        if expected >= timeout {
            return Err(Self::TooLong {
                users,
                expected,
                timeout,
            });
        }
        Ok(())
    }
}

/// Error of [`RunQueue::enqueue`].
#[derive(Debug, Error)]
pub enum EnqueueError {
    /// The queue is full.
    #[error("{MAX_UNFINISHED_RUNS} runs are already queued or running")]
    Full,
    /// The run can't succeed.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Error of [`RunQueue::retry`].
#[derive(Debug, Error)]
pub enum RetryError {
    /// The run does not exist.
    #[error("the run does not exist")]
    NotFound,
    /// The run is queued or running.
    #[error("the run has not ended")]
    NotEnded,
    /// The run has delivered each page.
    #[error("the run has delivered each page")]
    NothingLeft,
    /// The new run can't be queued.
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
}

/// Outcome of [`RunQueue::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The run delivers what it has fetched, or drops it, and ends.
    Cancelling,
    /// The run has ended as cancelled. It had not started, or it was not active and its undelivered records are dropped.
    Cancelled,
    /// The run had already ended.
    AlreadyEnded,
    /// The run does not exist.
    NotFound,
}

/// Queue of requested runs. Clones share the queue.
#[derive(Clone)]
pub struct RunQueue {
    store: Store,
    active: ActiveRun,
    settings: Arc<IngesterSettings>,
    wakeup: Arc<Notify>,
    /// Serialises checks of the queue with their changes.
    lock: Arc<Mutex<()>>,
    next_starts: Arc<Mutex<Vec<Timestamp>>>,
    /// Cancelled when a request could not be stored.
    store_failed: CancellationToken,
}

impl RunQueue {
    /// Creates a queue over the runs in `store`.
    #[must_use]
    pub fn new(store: Store, active: ActiveRun, settings: IngesterSettings) -> Self {
        Self {
            store,
            active,
            settings: Arc::new(settings),
            wakeup: Arc::default(),
            lock: Arc::default(),
            next_starts: Arc::default(),
            store_failed: CancellationToken::new(),
        }
    }

    /// Combines a request with the settings.
    #[must_use]
    pub fn spec(&self, trigger: Trigger, request: &RunRequest) -> RunSpec {
        request.spec(trigger, &self.settings)
    }

    /// Returns the id of the active run.
    #[must_use]
    pub fn active_run(&self) -> Option<Uuid> {
        self.active.run()
    }

    /// Returns why the next request of `run` to the API waits, if it does.
    #[must_use]
    pub fn fetch_wait(&self, run: Uuid) -> Option<FetchWait> {
        self.active.fetch_wait(run)
    }

    /// Sets when the next runs start.
    pub fn set_next_starts(&self, next: Vec<Timestamp>) {
        *self.next_starts.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Returns when the next runs start.
    #[must_use]
    pub fn next_starts(&self) -> Vec<Timestamp> {
        self.next_starts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Pauses the schedule for the caller `by`, until it is resumed. Requested runs still start.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be written.
    pub fn pause(&self, by: &str) -> Result<(), StoreError> {
        self.store.pause(by, Timestamp::now())?;
        self.set_next_starts(Vec::new());
        self.wakeup.notify_one();
        Ok(())
    }

    /// Resumes the schedule. Starts during the pause are not caught up.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be written.
    pub fn resume(&self) -> Result<(), StoreError> {
        self.store.resume()?;
        self.wakeup.notify_one();
        Ok(())
    }

    /// Stores a run. It starts at once or after the active run.
    ///
    /// # Errors
    /// Returns an [`EnqueueError`]. [`EnqueueError::Store`] also cancels [`Self::store_failed`].
    pub fn enqueue(&self, spec: &RunSpec) -> Result<Uuid, EnqueueError> {
        let inserted = self.insert(spec);
        if let Err(EnqueueError::Store(_)) = inserted {
            self.store_failed.cancel();
        }
        inserted
    }

    /// Stores a run of the pages that an ended run has not delivered, for the caller `by`.
    ///
    /// # Errors
    /// Returns a [`RetryError`].
    pub fn retry(&self, run: Uuid, by: &str) -> Result<Uuid, RetryError> {
        let stored = self.store.run(run).map_err(EnqueueError::Store)?;
        let stored = stored.ok_or(RetryError::NotFound)?;
        if !stored.state.is_final() {
            return Err(RetryError::NotEnded);
        }
        if stored.undelivered_pages().is_none() {
            return Err(RetryError::NothingLeft);
        }
        let mut spec = stored.retried();
        spec.requested_by = Some(by.to_owned());
        Ok(self.enqueue(&spec)?)
    }

    fn insert(&self, spec: &RunSpec) -> Result<Uuid, EnqueueError> {
        InvalidRequest::check(spec, &self.settings)?;
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if self.store.unfinished_runs()?.len() >= MAX_UNFINISHED_RUNS {
            return Err(EnqueueError::Full);
        }
        let run = self
            .store
            .insert_run(spec, RunState::Queued, None, Timestamp::now())?;
        self.wakeup.notify_one();
        Ok(run)
    }

    /// Cancels a run for the caller `by`. The request is stored before it takes effect, so a restart keeps it. The run
    /// delivers what it has fetched. With `force`, or if it is cancelled already, it drops that.
    ///
    /// # Errors
    /// Returns a [`StoreError`] and cancels [`Self::store_failed`].
    pub fn cancel(&self, run: Uuid, force: bool, by: &str) -> Result<CancelOutcome, StoreError> {
        let outcome = self.cancel_run(run, force, by);
        if outcome.is_err() {
            self.store_failed.cancel();
        }
        outcome
    }

    fn cancel_run(&self, run: Uuid, force: bool, by: &str) -> Result<CancelOutcome, StoreError> {
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stored) = self.store.run(run)? else {
            return Ok(CancelOutcome::NotFound);
        };
        let drop_pending = force || stored.state == RunState::Cancelling;
        let is_claimed = self.active.run() == Some(run);
        let reason = match stored.state {
            state if state.is_final() => return Ok(CancelOutcome::AlreadyEnded),
            RunState::Queued => "cancelled before it started",
            _ => "cancelled before it was resumed",
        };
        if !self.store.cancel_run(run, drop_pending, by)? {
            return Ok(CancelOutcome::AlreadyEnded);
        }
        if !is_claimed && (drop_pending || stored.state == RunState::Queued) {
            let (state, now) = (RunState::Cancelled, Timestamp::now());
            self.store
                .finish_run(run, state, Some(reason), &stored.counts, now)?;
            return Ok(CancelOutcome::Cancelled);
        }
        self.active.cancel(run, drop_pending);
        Ok(CancelOutcome::Cancelling)
    }

    /// Cancelled when the store failed to insert or cancel a run. The server then ends the process; the next process
    /// checks the state file when it opens it.
    #[must_use]
    pub fn store_failed(&self) -> &CancellationToken {
        &self.store_failed
    }

    /// Returns the next run to execute and claims it. From then on it can be stopped, also by a cancelled `stop`, but no
    /// longer removed from the queue.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be read.
    pub fn dequeue(&self, stop: &CancellationToken) -> Result<Option<Run>, StoreError> {
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.store.unfinished_runs()?.into_iter().next();
        if let Some(run) = &next {
            let _token = self.active.claim(run.id, stop);
        }
        Ok(next)
    }

    /// Waits until a run was enqueued since the last call.
    pub async fn notified(&self) {
        self.wakeup.notified().await;
    }

    /// Returns the run as [`Self::complete`] does.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be read.
    pub fn run(&self, run: Uuid) -> Result<Option<Run>, StoreError> {
        Ok(self.store.run(run)?.map(|stored| self.complete(stored)))
    }

    /// Adds what is not stored: the live counts of an active run, and the verdict of an ended one that has none yet.
    #[must_use]
    pub fn complete(&self, mut run: Run) -> Run {
        if let Some(counts) = self.active.counts(run.id) {
            run.counts = counts;
        }
        run.with_verdict(&self.settings.pipeline)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &IngesterSettings {
        &self.settings
    }
}

#[cfg(test)]
mod tests;
