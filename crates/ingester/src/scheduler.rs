//! `ingester run`: does the runs that wait, asks `schedule` what is due, and sleeps until there is something to do. Runs
//! never overlap, because there is one loop.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::scheduler::run_queue::{RunQueue, RunRequest};
use crate::run::exit_error::ExitError;
use crate::fetch::user_api::UserApi;
use crate::run::{Trigger, Run, RunSpec, RunState};
use crate::store::StoreError;
use crate::delivery::publisher_client::PublisherClient;
use crate::run::pipeline::Pipeline;
use crate::scheduler::schedule::{RunPeriod, DueStarts, SkipReason, Schedule};

/// How long it sleeps before it looks at the clock again, which may have been set, or have slept itself.
const NAP: Duration = Duration::from_secs(10);

/// The loop of `ingester run`.
pub struct Scheduler<F, P> {
    schedule: Schedule,
    pipeline: Pipeline<F, P>,
    desk: RunQueue,
    /// When runs were under way since the schedule was looked at.
    busy: Option<RunPeriod>,
}

impl<F: UserApi, P: PublisherClient> Scheduler<F, P> {
    /// Does what is asked for at `desk`, and what is due by its settings.
    #[must_use]
    pub fn new(pipeline: Pipeline<F, P>, desk: RunQueue) -> Self {
        let (salt, _) = Uuid::new_v4().as_u64_pair();
        Self {
            schedule: Schedule::new(&desk.settings().schedule, salt),
            pipeline,
            desk,
            busy: None,
        }
    }

    /// Runs until `stop` is cancelled, or until a run ends in a way that no other run can mend.
    ///
    /// # Errors
    /// Each [`ExitError`] but that of an incomplete run.
    pub async fn run(mut self, stop: &CancellationToken) -> Result<(), ExitError> {
        if !self.desk.memory().outlives_the_process() {
            tracing::warn!("without state.path, history and budget end with the process");
        }
        if self.desk.memory().scheduled_up_to()?.is_none() {
            let origin = self.schedule.origin(Timestamp::now());
            self.desk.memory().schedule_up_to(origin)?;
        }
        while !stop.is_cancelled() {
            match self.desk.take(stop)? {
                Some(entry) => self.perform(&entry, stop).await?,
                None if self.come()? => {}
                None => self.sleep(stop).await?,
            }
        }
        Ok(())
    }

    async fn perform(&mut self, entry: &Run, stop: &CancellationToken) -> Result<(), ExitError> {
        let from = self.busy.map_or_else(Timestamp::now, |busy| busy.from);
        // Whether one is tried again is known when this one has ended.
        self.announce(self.regular_start(Timestamp::now())?);
        let report = self.pipeline.perform(entry.id, stop).await?;
        let until = Timestamp::now();
        self.busy = Some(RunPeriod { from, until });
        if report.is_hopeless() {
            return Err(ExitError::Unrecoverable(report.reason().unwrap_or_default()));
        }
        if let Some((at, _)) = self.retry(until)? {
            tracing::info!(run = %entry.id, %at, "the run will be tried again");
        }
        Ok(())
    }

    /// When which run is tried again. The state alone decides, so that the next process says the same.
    fn retry(&self, now: Timestamp) -> Result<Option<(Timestamp, RunSpec)>, StoreError> {
        let memory = self.desk.memory();
        let last = memory.last_ended()?;
        let Some((failed, at)) = last.and_then(|last| last.ended.map(|at| (last, at))) else {
            return Ok(None);
        };
        if failed.state != RunState::Failed {
            return Ok(None);
        }
        let done = memory.scheduled_up_to()?.unwrap_or(at);
        let due = self.schedule.retry(failed.retry, at, done, now);
        Ok(due.map(|due| (due, failed.order().again())))
    }

    /// Enters what has come; says whether there was any.
    fn come(&mut self) -> Result<bool, StoreError> {
        let now = Timestamp::now();
        let busy = self.busy.take();
        let memory = self.desk.memory();
        let done = memory.scheduled_up_to()?.unwrap_or(now);
        let due = self.schedule.due(done, busy, now);
        let Some(up_to) = due.up_to else {
            return self.come_again(now);
        };
        self.note(&due);
        let mut entries: Vec<_> = due
            .passed
            .iter()
            .map(|(start, why)| match why {
                SkipReason::Missed => (*start, Trigger::Schedule, RunState::Missed, Some("nobody was there")),
                SkipReason::Overlap => (
                    *start,
                    Trigger::Schedule,
                    RunState::Skipped,
                    Some("another run was under way"),
                ),
            })
            .collect();
        entries.extend(
            due.runs
                .iter()
                .map(|(start, cause)| (*start, *cause, RunState::Queued, None)),
        );
        let orders: Vec<_> = entries
            .into_iter()
            .map(|(start, cause, state, reason)| {
                let mut order = self.desk.order(cause, &RunRequest::default());
                order.scheduled = Some(start);
                (order, state, reason)
            })
            .collect();
        memory.enter_due(&orders, up_to, now)?;
        Ok(true)
    }

    /// Enters the retry, if it has come.
    fn come_again(&self, now: Timestamp) -> Result<bool, StoreError> {
        let Some((_, order)) = self.retry(now)?.filter(|(at, _)| *at <= now) else {
            return Ok(false);
        };
        self.desk.memory().enter(&order, RunState::Queued, None, now)?;
        Ok(true)
    }

    fn note(&self, due: &DueStarts) {
        let metrics = self.pipeline.metrics();
        metrics.missed.inc_by(due.missed);
        metrics.skipped.inc_by(due.skipped);
        if due.missed + due.skipped > 0 {
            tracing::warn!(
                missed = due.missed,
                skipped = due.skipped,
                "starts came to nothing"
            );
        }
    }

    fn regular_start(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let done = self.desk.memory().scheduled_up_to()?.unwrap_or(now);
        Ok(self.schedule.next(done, now))
    }

    /// Tells the next start to everybody who asks.
    fn announce(&self, next: Option<Timestamp>) {
        self.desk.announce(next);
        let seconds = next.map_or(0.0, |next| next.as_duration().as_secs_f64());
        self.pipeline.metrics().next_start.set(seconds);
    }

    /// Until the next start, for a nap at most, or until somebody asks for a run.
    async fn sleep(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let retry = self.retry(now)?.map(|(at, _)| at);
        let next = retry.into_iter().chain(self.regular_start(now)?).min();
        self.announce(next);
        let left = next.map_or(NAP, |next| {
            Duration::try_from(next.duration_since(now)).unwrap_or_default()
        });
        self.pipeline.pulse().expect_within(NAP);
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.desk.rung() => {}
            () = sleep(left.min(NAP)) => {}
        }
        Ok(())
    }
}
