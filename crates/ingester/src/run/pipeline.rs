//! One run: pages come in, records go out, at the same time, and between them lies the outbox. Decides how the run
//! ended; when it starts and whether it is tried again is decided elsewhere.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use service::Context;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::run::active_run::ActiveRun;
use crate::delivery::delivery_loop::DeliveryLoop;
use crate::delivery::retrying_sender::Delivery;
use crate::fetch::user_api::{UserApi, HttpUserApi};
use crate::fetch::fetch_loop::{FetchOutcome, FetchLoop};
use crate::run::{Trigger, Run, RunSpec, RunState};
use crate::run::run_progress::RunProgress;
use crate::store::{Store, StoreError};
use crate::metrics::IngesterMetrics;
use crate::run::plan::{Plan, Seed};
use crate::delivery::publisher_client::{PublisherClient, HttpPublisher};
use crate::run::watchdog::Watchdog;
use crate::delivery::publisher_health::{PublisherProbe, PublisherHealth};
use crate::run::report::{Outcome, Report, RunError};
use crate::fetch::page_slots::PageSlots;
use crate::settings::{IngesterSettings, RunSettings, StateSettings};
use crate::fetch::retrying_fetcher::Source;
use crate::run::run_stats::Counts;

/// Without a state that outlives the process: one page that is delivered, one that is fetched meanwhile.
const PAGES_IN_MEMORY: usize = 2;

/// What makes a run: both seams, and what is known across runs.
pub struct Pipeline<F = HttpUserApi, P = HttpPublisher> {
    source: RetryingFetcher<F>,
    delivery: RetryingSender<P>,
    memory: Store,
    current: ActiveRun,
    reach: PublisherHealth,
    pulse: Watchdog,
    metrics: IngesterMetrics,
    run: RunSettings,
    state: StateSettings,
    page_size: u32,
    pages_in_flight: usize,
    batch: u32,
    batches_in_flight: usize,
}

/// Why there is no pipeline.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// TLS can't be set up.
    #[error("set up TLS")]
    Tls(#[from] reqwest::Error),
    /// The state can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Pipeline {
    /// The real API and the real publisher, and the probe that looks after the latter.
    ///
    /// # Errors
    /// Each [`PipelineError`].
    pub fn new(settings: &IngesterSettings, context: &Context) -> Result<(Self, PublisherProbe), PipelineError> {
        let source = HttpUserApi::new(&settings.source)?;
        let publisher = HttpPublisher::new(&settings.publisher)?;
        let reach = PublisherHealth::new(&context.health);
        let probe = PublisherProbe::new(
            publisher.clone(),
            reach.clone(),
            settings.publisher.probe_interval,
        );
        let pipeline = Self::over(source, publisher, reach, settings, context)?;
        Ok((pipeline, probe))
    }
}

impl<F: UserApi, P: PublisherClient> Pipeline<F, P> {
    /// A pipeline between the two seams.
    ///
    /// # Errors
    /// When the state can't be used.
    pub fn over(
        fetch: F,
        post: P,
        reach: PublisherHealth,
        settings: &IngesterSettings,
        context: &Context,
    ) -> Result<Self, StoreError> {
        let memory = match &settings.state.path {
            Some(path) => Store::open(path)?,
            None => Store::volatile()?,
        };
        let metrics = IngesterMetrics::new(&context.metrics);
        Ok(Self {
            source: RetryingFetcher::new(fetch, &settings.source, memory.clone(), metrics.clone())?,
            delivery: RetryingSender::new(post, &settings.publisher, reach.clone()),
            memory,
            current: ActiveRun::default(),
            reach,
            pulse: Watchdog::watched_by(&context.health),
            metrics,
            run: settings.run.clone(),
            state: settings.state.clone(),
            page_size: settings.source.page_size,
            pages_in_flight: settings.source.max_in_flight,
            batch: settings.publisher.batch_size,
            batches_in_flight: settings.publisher.max_in_flight,
        })
    }

    /// The metrics, for what happens between runs.
    pub fn metrics(&self) -> &IngesterMetrics {
        &self.metrics
    }

    /// The pulse, for what happens between runs.
    pub fn pulse(&self) -> &Watchdog {
        &self.pulse
    }

    /// The state, for what happens between runs.
    pub fn memory(&self) -> &Store {
        &self.memory
    }

    /// The run under way, for those who watch.
    pub fn current(&self) -> &ActiveRun {
        &self.current
    }

    /// What the settings want a run to do.
    #[must_use]
    pub fn order(&self, cause: Trigger) -> RunSpec {
        RunSpec {
            cause,
            scheduled: None,
            seed: self.run.seed.clone().unwrap_or_else(Seed::random),
            users: self.run.users,
            page_size: self.page_size,
            pages: None,
            retry: 0,
        }
    }

    /// Does what `order` says. When `stop` is cancelled it fetches no more and delivers what it has.
    ///
    /// # Errors
    /// When it can't even be entered into the state.
    pub async fn run(&mut self, order: &RunSpec, stop: &CancellationToken) -> Result<Report, StoreError> {
        let run = self.memory.enter(order, RunState::Queued, None, Timestamp::now())?;
        self.perform(run, stop).await
    }

    /// Does a run that was entered into the state, or goes on with one that another process began.
    ///
    /// # Errors
    /// When the state can't be used at the run's beginning or end.
    pub async fn perform(&mut self, run: Uuid, stop: &CancellationToken) -> Result<Report, StoreError> {
        let started = Instant::now();
        let cancel = self.current.claim(run, stop);
        let entry = self.memory.begin(run, self.batch, Timestamp::now())?;
        let window = self.run.duplicate_window;
        let ledger = RunProgress::open(self.memory.clone(), &entry, self.metrics.clone(), window)?;
        let ledger = Arc::new(ledger);
        let Run {
            cause, seed, resumed, ..
        } = &entry;
        tracing::info!(%run, %cause, users = entry.counts.requested, %seed, resumed, "run started");
        self.current.began(Arc::clone(&ledger));
        self.metrics.running.set(1);
        self.pulse.expect_within(self.run.timeout);
        let outcome = match self.legs(&ledger, &entry.order().plan(), &cancel).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        };
        self.reach.idle();
        self.metrics.running.set(0);
        let report = Report {
            run,
            seed: entry.seed.clone(),
            outcome,
            counts: ledger.tally().counts(),
            took: started.elapsed(),
        };
        self.note(&report);
        self.close(&ledger, &report, stop)?;
        self.current.ended();
        Ok(report)
    }

    /// What the process was told to leave, or only the operator can mend, the next process takes up; if there is one
    /// that can.
    fn close(&self, ledger: &RunProgress, report: &Report, stop: &CancellationToken) -> Result<(), StoreError> {
        let left = match report.outcome {
            Outcome::Stopped => stop.is_cancelled(),
            _ => report.is_hopeless(),
        };
        if left && self.memory.outlives_the_process() {
            return ledger.leave();
        }
        ledger.end(report.outcome.state(), report.reason().as_deref())?;
        let (age, number) = (self.state.retention.age, self.state.retention.runs);
        self.memory.prune(age, number, Timestamp::now())?;
        self.memory.scrub()
    }

    async fn legs(
        &self,
        ledger: &RunProgress,
        plan: &Plan,
        cancel: &CancellationToken,
    ) -> Result<Outcome, RunError> {
        let places = if self.memory.outlives_the_process() {
            self.state.outbox_pages
        } else {
            PAGES_IN_MEMORY.max(self.pages_in_flight)
        };
        let waiting = ledger.waiting_pages().map_err(RunError::Store)?;
        let room = PageSlots::new(places, waiting);
        let (source, delivery) = (&self.source, &self.delivery);
        let fetching = FetchLoop {
            source,
            ledger,
            room: &room,
            in_flight: self.pages_in_flight,
        };
        let delivering = DeliveryLoop {
            delivery,
            ledger,
            room: &room,
            in_flight: self.batches_in_flight,
        };
        // One ring is enough for any number of pages.
        let (bell, rings) = mpsc::channel(1);
        let (fetching, delivering) = (fetching.all(plan, cancel, bell), delivering.all(rings));
        let both = async { tokio::try_join!(fetching, delivering) };
        let Ok(ended) = tokio::time::timeout(self.run.timeout, both).await else {
            return Err(RunError::Deadline(self.run.timeout));
        };
        match ended?.0 {
            FetchOutcome::Failed(error) => Err(RunError::Source(error)),
            FetchOutcome::Cancelled => Ok(Outcome::Stopped),
            FetchOutcome::Complete => Ok(judged(&ledger.tally().counts())),
        }
    }

    fn note(&self, report: &Report) {
        let (run, outcome, counts) = (report.run, report.outcome.name(), &report.counts);
        self.metrics.runs.with_label_values(&[outcome]).inc();
        self.metrics.run_seconds.observe(report.took.as_secs_f64());
        if matches!(report.outcome, Outcome::Complete) {
            self.metrics.last_success.set(now_seconds());
        }
        let duration_ms = report.took.as_millis();
        let Counts {
            fetched,
            invalid,
            duplicate,
            accepted,
            rejected,
            undelivered,
            ..
        } = *counts;
        match report.reason() {
            Some(error) => {
                tracing::error!(%run, error, fetched, accepted, undelivered, duration_ms, "run failed");
            }
            None => tracing::info!(
                %run, outcome, fetched, invalid, duplicate, accepted, rejected, duration_ms, "run ended"
            ),
        }
    }
}

fn now_seconds() -> f64 {
    jiff::Timestamp::now().as_duration().as_secs_f64()
}

fn judged(counts: &Counts) -> Outcome {
    if counts.rejected == 0 {
        Outcome::Complete
    } else {
        Outcome::Rejected
    }
}

#[cfg(test)]
#[path = "run/tests.rs"]
mod tests;
