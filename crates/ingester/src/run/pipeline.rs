//! Executes one run: fetches pages and delivers records concurrently, with the outbox between them. Decides how the run
//! ended. The scheduler decides when a run starts and whether it is retried.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use service::{Context, Tracer};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{IngesterSettings, RunSettings, StateSettings};
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
use crate::run::plan::PagePlan;
use crate::run::report::{Report, RunError, RunOutcome};
use crate::run::run_progress::RunProgress;
use crate::run::run_stats::RunCounts;
use crate::run::watchdog::Watchdog;
use crate::run::{DeliverySpec, Run, RunSpec, RunState};
use crate::store::{Store, StoreError};
use crate::transform::mapping::{Mapping, MappingTableError};

/// Capacity without a state file: one page in delivery and one being fetched.
const PAGES_IN_MEMORY: usize = 2;

/// Executes runs. Holds both upstream clients and the state shared by all runs.
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
    max_pages_in_flight: usize,
    delivery: DeliverySpec,
    run_ended: watch::Sender<()>,
    tracer: Tracer,
}

/// Error of [`Pipeline::new`].
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The mapping does not fit the contract.
    #[error("failed to map users")]
    Mapping(#[from] MappingTableError),
    /// TLS can't be set up.
    #[error("failed to set up TLS")]
    Tls(#[from] reqwest::Error),
    /// The state file can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Pipeline {
    /// Creates a pipeline with HTTP clients, and the probe of the publisher.
    ///
    /// # Errors
    /// Returns any [`PipelineError`].
    pub fn new(
        settings: &IngesterSettings,
        store: Store,
        context: &Context,
    ) -> Result<(Self, PublisherProbe), PipelineError> {
        let fetcher = HttpUserApi::new(&settings.source, Mapping::user()?)?;
        let publisher = HttpPublisher::new(&settings.publisher)?;
        let publisher_health = PublisherHealth::new(&context.health);
        let probe = PublisherProbe::new(
            publisher.clone(),
            publisher_health.clone(),
            settings.publisher.probe_interval,
        );
        let pipeline = Self::with_clients((fetcher, publisher), publisher_health, settings, store, context)?;
        Ok((pipeline, probe))
    }
}

impl<F: UserApi, P: PublisherClient> Pipeline<F, P> {
    /// Creates a pipeline with the given clients.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be read.
    pub fn with_clients(
        (api, publisher): (F, P),
        publisher_health: PublisherHealth,
        settings: &IngesterSettings,
        store: Store,
        context: &Context,
    ) -> Result<Self, StoreError> {
        let metrics = IngesterMetrics::new(&context.metrics);
        if let Some(ended) = store.last_success()? {
            metrics.last_success.set(seconds(ended));
        }
        Ok(Self {
            fetcher: RetryingFetcher::new(api, &settings.source, store.clone(), metrics.clone())?,
            sender: RetryingSender::new(publisher, &settings.publisher, publisher_health.clone()),
            store,
            active_run: ActiveRun::default(),
            publisher_health,
            watchdog: Watchdog::register(&context.health),
            metrics,
            run: settings.run.clone(),
            state: settings.state.clone(),
            max_pages_in_flight: settings.source.max_in_flight,
            delivery: DeliverySpec::of(settings),
            run_ended: watch::Sender::default(),
            tracer: context.tracer.clone(),
        })
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &IngesterMetrics {
        &self.metrics
    }

    /// Returns the watchdog.
    pub fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the active run.
    pub fn active_run(&self) -> &ActiveRun {
        &self.active_run
    }

    /// Notifies of each run that has ended.
    pub fn run_ended(&self) -> watch::Receiver<()> {
        self.run_ended.subscribe()
    }

    /// Stores and executes a run. When `stop` is cancelled, it fetches no more and delivers what it has.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the run can't be stored.
    pub async fn run(&mut self, spec: &RunSpec, stop: &CancellationToken) -> Result<Report, StoreError> {
        let run = self
            .store
            .insert_run(spec, RunState::Queued, None, Timestamp::now())?;
        self.execute(run, stop).await
    }

    /// Executes a stored run, or resumes one that another process started.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store fails at the start or the end of the run.
    pub async fn execute(&mut self, run: Uuid, stop: &CancellationToken) -> Result<Report, StoreError> {
        let started = Instant::now();
        let tokens = self.active_run.claim(run, stop);
        let stored = self.store.start_run(run, &self.delivery, Timestamp::now())?;
        if stored.state == RunState::Cancelling {
            // Requested of an earlier process, or since the run was claimed.
            tokens.cancel(stored.drop_pending);
        }
        let progress = RunProgress::open(self.store.clone(), &stored, self.metrics.clone())?;
        let progress = Arc::new(progress.with_tracer(&self.tracer));
        let Run {
            trigger,
            seed,
            resumed,
            ..
        } = &stored;
        tracing::info!(%run, %trigger, users = stored.counts.requested, %seed, resumed, "run started");
        self.active_run.started(Arc::clone(&progress));
        self.sender.begin_run();
        self.metrics.running.set(1);
        self.watchdog.expect_progress_within(self.run.timeout);
        let plan = stored.spec().plan();
        let outcome = tokio::select! {
            biased;
            () = tokens.drop.cancelled() => RunOutcome::Cancelled(None),
            outcome = self.run_stages(&progress, &plan, &tokens.cancel) => {
                outcome.unwrap_or_else(RunOutcome::Failed)
            }
        };
        self.publisher_health.idle();
        self.metrics.running.set(0);
        let report = Report {
            run,
            seed: stored.seed.clone(),
            outcome: if tokens.requested.is_cancelled() {
                outcome.cancelled()
            } else {
                outcome
            },
            counts: progress.stats().counts(),
            duration: started.elapsed(),
            verdict: None,
        };
        let is_resumable = self.is_resumable(&report, stop);
        let report = if is_resumable {
            progress.suspend()?;
            report
        } else {
            let report = Self::end(&progress, report)?;
            // The first of the processes that worked on the run started it.
            let started = stored.started.map_or_else(SystemTime::now, SystemTime::from);
            progress.trace().record_run(started, &report);
            report
        };
        self.record(&report);
        if !is_resumable {
            let (age, number) = (self.state.retention.age, self.state.retention.runs);
            self.store.prune_runs(age, number, Timestamp::now())?;
            self.store.purge_deleted()?;
        }
        self.active_run.finished();
        self.run_ended.send_replace(());
        Ok(report)
    }

    /// Whether the next process resumes the run: one that was interrupted, or that fails until the operator acts.
    fn is_resumable(&self, report: &Report, stop: &CancellationToken) -> bool {
        let is_interrupted = matches!(report.outcome, RunOutcome::Stopped) && stop.is_cancelled();
        self.store.is_persistent() && (is_interrupted || report.is_unrecoverable())
    }

    /// Ends the run. One that was cancelled at the last moment ends as cancelled.
    fn end(progress: &RunProgress, report: Report) -> Result<Report, StoreError> {
        let state = progress.finish(report.outcome.state(), report.reason().as_deref())?;
        let outcome = match state {
            RunState::Cancelled if !matches!(report.outcome, RunOutcome::Stopped) => {
                report.outcome.cancelled()
            }
            _ => report.outcome,
        };
        Ok(Report { outcome, ..report })
    }

    async fn run_stages(
        &self,
        progress: &RunProgress,
        plan: &PagePlan,
        cancel: &CancellationToken,
    ) -> Result<RunOutcome, RunError> {
        let capacity = if self.store.is_persistent() {
            self.state.outbox_pages
        } else {
            PAGES_IN_MEMORY.max(self.max_pages_in_flight)
        };
        let pending = progress.pending_pages().map_err(RunError::Store)?;
        let slots = PageSlots::new(capacity, pending);
        let (fetcher, sender) = (&self.fetcher, &self.sender);
        let fetch_loop = FetchLoop {
            fetcher,
            progress,
            slots: &slots,
            max_in_flight: self.max_pages_in_flight,
        };
        let delivery_loop = DeliveryLoop {
            sender,
            progress,
            slots: &slots,
        };
        // Capacity 1: one wakeup covers any number of stored pages.
        let (wakeup, wakeups) = mpsc::channel(1);
        let (fetch_loop, delivery_loop) = (fetch_loop.run(plan, cancel, wakeup), delivery_loop.run(wakeups));
        let both = async { tokio::try_join!(fetch_loop, delivery_loop) };
        let Ok(result) = tokio::time::timeout(self.run.timeout, both).await else {
            return Err(RunError::Timeout(self.run.timeout));
        };
        match result?.0 {
            FetchOutcome::Failed(error) => Err(RunError::Fetch(error)),
            FetchOutcome::Cancelled => Ok(RunOutcome::Stopped),
            FetchOutcome::Complete => outcome_of(&progress.stats().counts(), self.run.max_invalid_share),
        }
    }

    /// Records the metrics of a run and logs its outcome.
    fn record(&self, report: &Report) {
        let (run, outcome, counts) = (report.run, report.outcome.name(), &report.counts);
        self.metrics.runs.with_label_values(&[outcome]).inc();
        self.metrics.run_duration.observe(report.duration.as_secs_f64());
        if matches!(report.outcome, RunOutcome::Complete) {
            self.metrics.last_success.set(seconds(Timestamp::now()));
        }
        // A log in JSON would have a number of 128 bits as text.
        let duration_ms = u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX);
        let RunCounts {
            fetched,
            invalid,
            suspicious,
            duplicate,
            accepted,
            rejected,
            undelivered,
            ..
        } = *counts;
        let error = report.reason();
        if matches!(report.outcome, RunOutcome::Failed(_)) {
            tracing::error!(%run, error, fetched, accepted, undelivered, duration_ms, "run failed");
        } else {
            tracing::info!(
                %run, outcome, error, fetched, invalid, suspicious, duplicate, accepted, rejected, undelivered,
                duration_ms, "run ended"
            );
        }
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

/// Returns the outcome of a run that has fetched and delivered everything.
fn outcome_of(counts: &RunCounts, max_invalid_share: f64) -> Result<RunOutcome, RunError> {
    if counts.invalid_share() > max_invalid_share {
        let reasons = counts.invalid_reasons.iter().chain(&counts.rejected_reasons);
        let most_frequent = reasons.max_by_key(|(_, users)| **users);
        return Err(RunError::InvalidUsers {
            invalid: counts.invalid,
            rejected: counts.rejected,
            fetched: counts.fetched,
            max: max_invalid_share,
            reason: most_frequent
                .map(|(reason, _)| reason.clone())
                .unwrap_or_default(),
        });
    }
    Ok(if counts.rejected == 0 {
        RunOutcome::Complete
    } else {
        RunOutcome::Rejected
    })
}

#[cfg(test)]
mod tests;
