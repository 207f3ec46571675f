//! Where runs are asked for: enters them into the state, as far as no other run is in the way, and wakes whoever does
//! them. It does none itself.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::run::active_run::ActiveRun;
use crate::run::{Trigger, Run, RunSpec, RunState};
use crate::store::{Store, StoreError};
use crate::run::plan::{PageRange, Seed};
use crate::settings::{ConcurrencyPolicy, IngesterSettings};

/// What somebody asks for; what is left out is as the settings have it.
#[derive(Clone, Debug, Default)]
pub struct RunRequest {
    /// How many users.
    pub users: Option<u64>,
    /// From which seed.
    pub seed: Option<Seed>,
    /// Which of its pages.
    pub pages: Option<PageRange>,
}

impl RunRequest {
    /// What the settings and the wish want a run to do.
    #[must_use]
    pub fn order(&self, cause: Trigger, settings: &IngesterSettings) -> RunSpec {
        let seed = self.seed.as_ref().or(settings.run.seed.as_ref()).cloned();
        RunSpec {
            cause,
            scheduled: None,
            seed: seed.unwrap_or_else(Seed::random),
            users: self.users.unwrap_or(settings.run.users),
            page_size: settings.source.page_size,
            pages: self.pages,
            retry: 0,
        }
    }

    /// Whether a run that did `order` did what is wished for. Who names no seed is content with any.
    #[must_use]
    pub fn is_met_by(&self, order: &RunSpec, settings: &IngesterSettings) -> bool {
        let wanted = self.order(order.cause, settings);
        let seed = self.seed.as_ref().or(settings.run.seed.as_ref());
        let seed_fits = seed.is_none_or(|seed| *seed == order.seed);
        seed_fits && (wanted.users, wanted.pages) == (order.users, order.pages)
    }
}

/// Why a run is not entered.
#[derive(Debug, Error)]
pub enum EnqueueError {
    /// This one is under way or waits, and `schedule.concurrency_policy` has no room for another.
    #[error("run {0} is in the way")]
    Busy(Uuid),
    /// No page of the seed is among those asked for.
    #[error("the pages asked for hold no users")]
    Nothing,
    /// The state can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of the wish to end a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It delivers what it has and ends.
    Stopping,
    /// It had not begun, and won't.
    Withdrawn,
    /// It had ended before.
    Over,
    /// There is no such run.
    Unknown,
}

/// The place where runs are asked for. Clones are the same place.
#[derive(Clone)]
pub struct RunQueue {
    memory: Store,
    current: ActiveRun,
    settings: Arc<IngesterSettings>,
    bell: Arc<Notify>,
    /// One at a time looks for room and takes it.
    turn: Arc<Mutex<()>>,
    next_start: Arc<Mutex<Option<Timestamp>>>,
    /// Cancelled when a wish could not be kept in the state.
    lost: CancellationToken,
}

impl RunQueue {
    /// A desk for the runs of `memory`.
    #[must_use]
    pub fn new(memory: Store, current: ActiveRun, settings: IngesterSettings) -> Self {
        Self {
            memory,
            current,
            settings: Arc::new(settings),
            bell: Arc::default(),
            turn: Arc::default(),
            next_start: Arc::default(),
            lost: CancellationToken::new(),
        }
    }

    /// What the settings and the wish want a run to do.
    #[must_use]
    pub fn order(&self, cause: Trigger, wish: &RunRequest) -> RunSpec {
        wish.order(cause, &self.settings)
    }

    /// Which run is under way.
    #[must_use]
    pub fn running(&self) -> Option<Uuid> {
        self.current.run()
    }

    /// Says when the next run starts.
    pub fn announce(&self, next: Option<Timestamp>) {
        *self.next_start.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// When the next run starts, as it was announced last.
    #[must_use]
    pub fn next_start(&self) -> Option<Timestamp> {
        *self.next_start.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a run, which starts at once, or after the one under way.
    ///
    /// # Errors
    /// Each [`EnqueueError`]. After [`EnqueueError::Store`] the state is [`Self::lost`].
    pub fn ask(&self, order: &RunSpec) -> Result<Uuid, EnqueueError> {
        let entered = self.enter(order);
        if let Err(EnqueueError::Store(_)) = entered {
            self.lost.cancel();
        }
        entered
    }

    fn enter(&self, order: &RunSpec) -> Result<Uuid, EnqueueError> {
        if order.plan().users() == 0 {
            return Err(EnqueueError::Nothing);
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let unfinished = self.memory.unfinished()?;
        let most = match self.settings.schedule.concurrency_policy {
            ConcurrencyPolicy::Skip => 0,
            ConcurrencyPolicy::Queue => 1,
        };
        if let Some(last) = unfinished.get(most) {
            return Err(EnqueueError::Busy(last.id));
        }
        let run = self.memory.enter(order, RunState::Queued, None, Timestamp::now())?;
        self.bell.notify_one();
        Ok(run)
    }

    /// Ends a run cleanly.
    ///
    /// # Errors
    /// When the state can't be used; then it is [`Self::lost`].
    pub fn end(&self, run: Uuid) -> Result<CancelOutcome, StoreError> {
        let ended = self.stop_or_withdraw(run);
        if ended.is_err() {
            self.lost.cancel();
        }
        ended
    }

    fn stop_or_withdraw(&self, run: Uuid) -> Result<CancelOutcome, StoreError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.current.cancel(run) {
            return Ok(CancelOutcome::Stopping);
        }
        match self.memory.run(run)? {
            None => Ok(CancelOutcome::Unknown),
            Some(entry) if entry.state.is_final() => Ok(CancelOutcome::Over),
            Some(entry) => {
                self.memory.end(
                    run,
                    RunState::Stopped,
                    Some("withdrawn before it began"),
                    &entry.counts,
                    Timestamp::now(),
                )?;
                Ok(CancelOutcome::Withdrawn)
            }
        }
    }

    /// Cancelled once a run could not be entered or ended because the state can't be used. Whoever serves the desk ends
    /// the process then: the next one finds out whether the state is whole.
    #[must_use]
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// The next run to do, if there is one. From now on it can be stopped, as by a cancelled `stop`, and no longer be
    /// withdrawn.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn take(&self, stop: &CancellationToken) -> Result<Option<Run>, StoreError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.memory.unfinished()?.into_iter().next();
        if let Some(entry) = &next {
            let _token = self.current.claim(entry.id, stop);
        }
        Ok(next)
    }

    /// Returns when a run was asked for since the last call.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// The run with this id, as it stands this moment.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn run(&self, run: Uuid) -> Result<Option<Run>, StoreError> {
        Ok(self.memory.run(run)?.map(|entry| self.live(entry)))
    }

    /// The entry with the counts of this moment.
    #[must_use]
    pub fn live(&self, mut entry: Run) -> Run {
        if let Some(counts) = self.current.counts(entry.id) {
            entry.counts = counts;
        }
        entry
    }

    /// The state.
    #[must_use]
    pub fn memory(&self) -> &Store {
        &self.memory
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &IngesterSettings {
        &self.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(overlap: ConcurrencyPolicy) -> RunQueue {
        let mut settings = IngesterSettings::default();
        settings.schedule.concurrency_policy = overlap;
        RunQueue::new(Store::volatile().unwrap(), ActiveRun::default(), settings)
    }

    fn ask(desk: &RunQueue) -> Result<Uuid, EnqueueError> {
        desk.ask(&desk.order(Trigger::Manual, &RunRequest::default()))
    }

    #[test]
    fn no_more_runs_wait_than_the_operator_wants() {
        let skip = desk(ConcurrencyPolicy::Skip);
        let first = ask(&skip).unwrap();
        assert!(matches!(ask(&skip), Err(EnqueueError::Busy(run)) if run == first));
        let queue = desk(ConcurrencyPolicy::Queue);
        ask(&queue).unwrap();
        let second = ask(&queue).unwrap();
        assert!(matches!(ask(&queue), Err(EnqueueError::Busy(run)) if run == second));
    }

    #[test]
    fn a_run_that_waits_can_be_withdrawn() {
        let desk = desk(ConcurrencyPolicy::Skip);
        let run = ask(&desk).unwrap();
        assert_eq!(desk.end(run).unwrap(), CancelOutcome::Withdrawn);
        let stop = CancellationToken::new();
        assert_eq!(
            (desk.end(run).unwrap(), desk.take(&stop).unwrap()),
            (CancelOutcome::Over, None)
        );
        assert_eq!(desk.end(Uuid::nil()).unwrap(), CancelOutcome::Unknown);
        ask(&desk).unwrap();
    }

    #[test]
    fn a_run_that_is_taken_is_stopped_and_never_withdrawn_though_it_has_not_begun() {
        let desk = desk(ConcurrencyPolicy::Skip);
        let (run, stop) = (ask(&desk).unwrap(), CancellationToken::new());
        assert_eq!(desk.take(&stop).unwrap().unwrap().id, run);
        assert_eq!(desk.end(run).unwrap(), CancelOutcome::Stopping);
        assert_eq!(desk.run(run).unwrap().unwrap().state, RunState::Queued);
        assert!(
            desk.current.claim(run, &stop).is_cancelled(),
            "whoever does it is told"
        );
    }

    #[test]
    fn pages_beyond_the_last_are_refused() {
        let desk = desk(ConcurrencyPolicy::Skip);
        let pages = Some("9..10".parse().unwrap());
        let order = desk.order(
            Trigger::Backfill,
            &RunRequest {
                pages,
                ..RunRequest::default()
            },
        );
        assert!(matches!(desk.ask(&order), Err(EnqueueError::Nothing)));
    }
}
