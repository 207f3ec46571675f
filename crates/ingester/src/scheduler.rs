//! The scheduler loop of `ingester run`: executes queued runs, enqueues due starts and sleeps in between. Runs never
//! overlap, because one loop executes them.

pub mod cron;
pub mod run_queue;
pub mod schedule;

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::delivery::publisher_client::PublisherClient;
use crate::fetch::user_api::UserApi;
use crate::run::exit_error::ExitError;
use crate::run::pipeline::Pipeline;
use crate::run::{Run, RunSpec, RunState, Trigger};
use crate::scheduler::run_queue::{RunQueue, RunRequest};
use crate::scheduler::schedule::{DueStarts, RunPeriod, Schedule, SkipReason};
use crate::store::StoreError;

/// Maximum sleep. The wall clock may step or the machine may suspend meanwhile, so the clock is read again afterwards.
const MAX_SLEEP: Duration = Duration::from_secs(10);
/// Number of starts that are announced.
const ANNOUNCED_STARTS: usize = 5;

/// Scheduler loop of `ingester run`.
pub struct Scheduler<F, P> {
    schedule: Schedule,
    pipeline: Pipeline<F, P>,
    queue: RunQueue,
    /// The runs since the last check of the schedule, without gaps between them.
    active: Vec<RunPeriod>,
}

impl<F: UserApi, P: PublisherClient> Scheduler<F, P> {
    /// Executes the runs in `queue` and those due by its settings.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the salt of the jitter can't be stored.
    pub fn new(pipeline: Pipeline<F, P>, queue: RunQueue) -> Result<Self, StoreError> {
        let (random, _) = Uuid::new_v4().as_u64_pair();
        let salt = queue.store().jitter_salt(random)?;
        Ok(Self {
            schedule: Schedule::new(&queue.settings().schedule, salt),
            pipeline,
            queue,
            active: Vec::new(),
        })
    }

    /// Runs until `stop` is cancelled or a run fails unrecoverably.
    ///
    /// # Errors
    /// Returns any [`ExitError`] except [`ExitError::Incomplete`].
    pub async fn run(mut self, stop: &CancellationToken) -> Result<(), ExitError> {
        if !self.queue.store().is_persistent() {
            tracing::warn!("`state.path` is not set: runs, outbox and rate limit usage are lost on exit");
        }
        if self.schedule.is_disabled() {
            // Enabled again, it begins as at the first start: nothing was missed.
            self.queue.store().clear_schedule_cursor()?;
        } else if self.queue.store().schedule_cursor()?.is_none() {
            let origin = self.schedule.origin(Timestamp::now());
            self.queue.store().set_schedule_cursor(origin)?;
        }
        while !stop.is_cancelled() {
            match self.queue.dequeue(stop)? {
                Some(run) => self.execute(&run, stop).await?,
                None if self.enqueue_due()? => {}
                None => self.sleep(stop).await?,
            }
        }
        Ok(())
    }

    async fn execute(&mut self, run: &Run, stop: &CancellationToken) -> Result<(), ExitError> {
        let from = self
            .active
            .last()
            .map_or_else(Timestamp::now, |previous| previous.until);
        // Whether this run needs a retry is known only after it ended.
        self.publish_next_starts(self.regular_starts(Timestamp::now())?);
        let report = self.pipeline.execute(run.id, stop).await?;
        let until = Timestamp::now();
        self.active.push(RunPeriod {
            from,
            until,
            is_scheduled: run.scheduled.is_some(),
        });
        if report.is_unrecoverable() {
            return Err(ExitError::Unrecoverable(report.reason().unwrap_or_default()));
        }
        if let Some((at, _)) = self.retry(until)? {
            tracing::info!(run = %run.id, %at, "run will be retried");
        }
        Ok(())
    }

    /// Returns when to retry which run. Depends on stored state alone, so a restarted process decides the same.
    fn retry(&self, now: Timestamp) -> Result<Option<(Timestamp, RunSpec)>, StoreError> {
        let store = self.queue.store();
        if store.paused()?.is_some() {
            return Ok(None);
        }
        let last = store.last_finished_run()?;
        let Some((failed, at)) = last.and_then(|last| last.ended.map(|at| (last, at))) else {
            return Ok(None);
        };
        if failed.state != RunState::Failed {
            return Ok(None);
        }
        let done = store.schedule_cursor()?.unwrap_or(at);
        let due = self.schedule.retry(failed.retry, at, done, now);
        Ok(due.map(|due| (due, failed.retried())))
    }

    /// Inserts the due starts into the store. Returns whether any start was due.
    fn enqueue_due(&mut self) -> Result<bool, StoreError> {
        let now = Timestamp::now();
        let active = std::mem::take(&mut self.active);
        let store = self.queue.store();
        let done = store.schedule_cursor()?.unwrap_or(now);
        let mut due = self.schedule.due(done, &active, now);
        if store.paused()?.is_some() {
            due = due.paused();
        }
        let Some(up_to) = due.up_to else {
            return self.enqueue_retry(now);
        };
        self.count_not_run(&due);
        let mut starts: Vec<_> = due
            .not_run
            .iter()
            .map(|(start, reason)| match reason {
                SkipReason::Missed => (
                    *start,
                    Trigger::Schedule,
                    RunState::Missed,
                    Some("missed: the scheduler was not running"),
                ),
                SkipReason::Overlap => (
                    *start,
                    Trigger::Schedule,
                    RunState::Skipped,
                    Some("skipped: another run was active"),
                ),
                SkipReason::Paused => (
                    *start,
                    Trigger::Schedule,
                    RunState::Skipped,
                    Some("skipped: the schedule was paused"),
                ),
            })
            .collect();
        starts.extend(
            due.runs
                .iter()
                .map(|(start, trigger)| (*start, *trigger, RunState::Queued, None)),
        );
        let specs: Vec<_> = starts
            .into_iter()
            .map(|(start, trigger, state, reason)| {
                let mut spec = self.queue.spec(trigger, &RunRequest::default());
                spec.scheduled = Some(start);
                (spec, state, reason)
            })
            .collect();
        store.insert_due_runs(&specs, up_to, now)?;
        Ok(true)
    }

    /// Enqueues the retry if it is due.
    fn enqueue_retry(&self, now: Timestamp) -> Result<bool, StoreError> {
        let Some((_, spec)) = self.retry(now)?.filter(|(at, _)| *at <= now) else {
            return Ok(false);
        };
        self.queue
            .store()
            .insert_run(&spec, RunState::Queued, None, now)?;
        Ok(true)
    }

    fn count_not_run(&self, due: &DueStarts) {
        let metrics = self.pipeline.metrics();
        metrics.starts_missed.inc_by(due.missed);
        metrics.starts_skipped.inc_by(due.skipped);
        if due.missed + due.skipped > 0 {
            tracing::warn!(
                missed = due.missed,
                skipped = due.skipped,
                "scheduled starts did not run"
            );
        }
    }

    /// Returns the next starts of the schedule; none while it is paused.
    fn regular_starts(&self, now: Timestamp) -> Result<Vec<Timestamp>, StoreError> {
        let store = self.queue.store();
        if store.paused()?.is_some() {
            return Ok(Vec::new());
        }
        let done = store.schedule_cursor()?.unwrap_or(now);
        Ok(self.schedule.upcoming(done, now, ANNOUNCED_STARTS))
    }

    /// Publishes the next starts to the API, and the first of them to the metrics.
    fn publish_next_starts(&self, next: Vec<Timestamp>) {
        let first = next.first().copied();
        self.queue.set_next_starts(next);
        let seconds = first.map_or(0.0, |next| next.as_duration().as_secs_f64());
        self.pipeline.metrics().next_start.set(seconds);
    }

    /// Sleeps until the next start, a new request or [`MAX_SLEEP`].
    async fn sleep(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let mut starts = self.regular_starts(now)?;
        starts.extend(self.retry(now)?.map(|(at, _)| at));
        starts.sort();
        starts.truncate(ANNOUNCED_STARTS);
        let next = starts.first().copied();
        self.publish_next_starts(starts);
        // While the schedule is paused, its starts are skipped within the maximum sleep.
        let left = next.map_or(MAX_SLEEP, |next| {
            Duration::try_from(next.duration_since(now)).unwrap_or_default()
        });
        self.queue.store().purge_if_pending()?;
        self.pipeline.watchdog().expect_progress_within(MAX_SLEEP);
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.queue.notified() => {}
            () = sleep(left.min(MAX_SLEEP)) => {}
        }
        Ok(())
    }
}
