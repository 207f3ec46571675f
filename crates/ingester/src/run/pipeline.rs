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

use crate::delivery::delivery_loop::DeliveryLoop;
use crate::delivery::publisher_client::{HttpPublisher, PublisherClient};
use crate::delivery::publisher_health::{PublisherHealth, PublisherProbe};
use crate::delivery::retrying_sender::RetryingSender;
use crate::fetch::fetch_loop::{FetchLoop, FetchOutcome};
use crate::fetch::page_slots::PageSlots;
use crate::fetch::retrying_fetcher::RetryingFetcher;
use crate::fetch::user_api::{HttpUserApi, UserApi};
use crate::metrics::IngesterMetrics;
use crate::run::active_run::ActiveRun;
use crate::run::plan::{Plan, Seed};
use crate::run::report::{Outcome, Report, RunError};
use crate::run::run_progress::RunProgress;
use crate::run::run_stats::Counts;
use crate::run::watchdog::Watchdog;
use crate::run::{Run, RunSpec, RunState, Trigger};
use crate::settings::{IngesterSettings, RunSettings, StateSettings};
use crate::store::{Store, StoreError};

/// Without a state that outlives the process: one page that is delivered, one that is fetched meanwhile.
const PAGES_IN_MEMORY: usize = 2;

/// What makes a run: both seams, and what is known across runs.
pub struct Pipeline<F = HttpUserApi, P = HttpPublisher> {
    fetcher: RetryingFetcher<F>,
    sender: RetryingSender<P>,
    store: Store,
    active_run: ActiveRun,
    publisher_health: PublisherHealth,
    watchdog: Watchdog,
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
    pub fn new(
        settings: &IngesterSettings,
        context: &Context,
    ) -> Result<(Self, PublisherProbe), PipelineError> {
        let fetcher = HttpUserApi::new(&settings.source)?;
        let publisher = HttpPublisher::new(&settings.publisher)?;
        let publisher_health = PublisherHealth::new(&context.health);
        let probe = PublisherProbe::new(
            publisher.clone(),
            publisher_health.clone(),
            settings.publisher.probe_interval,
        );
        let pipeline = Self::with_clients(fetcher, publisher, publisher_health, settings, context)?;
        Ok((pipeline, probe))
    }
}

impl<F: UserApi, P: PublisherClient> Pipeline<F, P> {
    /// A pipeline between the two seams.
    ///
    /// # Errors
    /// When the state can't be used.
    pub fn with_clients(
        fetch: F,
        post: P,
        publisher_health: PublisherHealth,
        settings: &IngesterSettings,
        context: &Context,
    ) -> Result<Self, StoreError> {
        let store = match &settings.state.path {
            Some(path) => Store::open(path)?,
            None => Store::in_memory()?,
        };
        let metrics = IngesterMetrics::new(&context.metrics);
        Ok(Self {
            fetcher: RetryingFetcher::new(fetch, &settings.source, store.clone(), metrics.clone())?,
            sender: RetryingSender::new(post, &settings.publisher, publisher_health.clone()),
            store,
            active_run: ActiveRun::default(),
            publisher_health,
            watchdog: Watchdog::register(&context.health),
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
    pub fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// The state, for what happens between runs.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The run under way, for those who watch.
    pub fn active_run(&self) -> &ActiveRun {
        &self.active_run
    }

    /// What the settings want a run to do.
    #[must_use]
    pub fn spec(&self, trigger: Trigger) -> RunSpec {
        RunSpec {
            trigger,
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
    pub async fn run(&mut self, spec: &RunSpec, stop: &CancellationToken) -> Result<Report, StoreError> {
        let run = self
            .store
            .insert_run(spec, RunState::Queued, None, Timestamp::now())?;
        self.execute(run, stop).await
    }

    /// Does a run that was entered into the state, or goes on with one that another process began.
    ///
    /// # Errors
    /// When the state can't be used at the run's beginning or end.
    pub async fn execute(&mut self, run: Uuid, stop: &CancellationToken) -> Result<Report, StoreError> {
        let started = Instant::now();
        let cancel = self.active_run.claim(run, stop);
        let entry = self.store.start_run(run, self.batch, Timestamp::now())?;
        let window = self.run.duplicate_window;
        let progress = RunProgress::open(self.store.clone(), &entry, self.metrics.clone(), window)?;
        let progress = Arc::new(progress);
        let Run {
            trigger,
            seed,
            resumed,
            ..
        } = &entry;
        tracing::info!(%run, %trigger, users = entry.counts.requested, %seed, resumed, "run started");
        self.active_run.started(Arc::clone(&progress));
        self.metrics.running.set(1);
        self.watchdog.expect_progress_within(self.run.timeout);
        let outcome = match self.run_stages(&progress, &entry.spec().plan(), &cancel).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        };
        self.publisher_health.idle();
        self.metrics.running.set(0);
        let report = Report {
            run,
            seed: entry.seed.clone(),
            outcome,
            counts: progress.stats().counts(),
            duration: started.elapsed(),
        };
        self.record(&report);
        self.close(&progress, &report, stop)?;
        self.active_run.finished();
        Ok(report)
    }

    /// What the process was told to leave, or only the operator can mend, the next process takes up; if there is one
    /// that can.
    fn close(
        &self,
        progress: &RunProgress,
        report: &Report,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let left = match report.outcome {
            Outcome::Stopped => stop.is_cancelled(),
            _ => report.is_unrecoverable(),
        };
        if left && self.store.is_persistent() {
            return progress.suspend();
        }
        progress.finish(report.outcome.state(), report.reason().as_deref())?;
        let (age, number) = (self.state.retention.age, self.state.retention.runs);
        self.store.prune_runs(age, number, Timestamp::now())?;
        self.store.purge_deleted()
    }

    async fn run_stages(
        &self,
        progress: &RunProgress,
        plan: &Plan,
        cancel: &CancellationToken,
    ) -> Result<Outcome, RunError> {
        let capacity = if self.store.is_persistent() {
            self.state.outbox_pages
        } else {
            PAGES_IN_MEMORY.max(self.pages_in_flight)
        };
        let waiting = progress.pending_pages().map_err(RunError::Store)?;
        let slots = PageSlots::new(capacity, waiting);
        let (fetcher, sender) = (&self.fetcher, &self.sender);
        let fetch_loop = FetchLoop {
            fetcher,
            progress,
            slots: &slots,
            in_flight: self.pages_in_flight,
        };
        let delivery_loop = DeliveryLoop {
            sender,
            progress,
            slots: &slots,
            in_flight: self.batches_in_flight,
        };
        // One ring is enough for any number of pages.
        let (wakeup, wakeups) = mpsc::channel(1);
        let (fetch_loop, delivery_loop) = (fetch_loop.run(plan, cancel, wakeup), delivery_loop.run(wakeups));
        let both = async { tokio::try_join!(fetch_loop, delivery_loop) };
        let Ok(ended) = tokio::time::timeout(self.run.timeout, both).await else {
            return Err(RunError::Timeout(self.run.timeout));
        };
        match ended?.0 {
            FetchOutcome::Failed(error) => Err(RunError::Fetch(error)),
            FetchOutcome::Cancelled => Ok(Outcome::Stopped),
            FetchOutcome::Complete => Ok(outcome_of(&progress.stats().counts())),
        }
    }

    fn record(&self, report: &Report) {
        let (run, outcome, counts) = (report.run, report.outcome.name(), &report.counts);
        self.metrics.runs.with_label_values(&[outcome]).inc();
        self.metrics.run_seconds.observe(report.duration.as_secs_f64());
        if matches!(report.outcome, Outcome::Complete) {
            self.metrics.last_success.set(now_seconds());
        }
        let duration_ms = report.duration.as_millis();
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

fn outcome_of(counts: &Counts) -> Outcome {
    if counts.rejected == 0 {
        Outcome::Complete
    } else {
        Outcome::Rejected
    }
}

#[cfg(test)]
#[path = "pipeline/tests.rs"]
mod tests;
