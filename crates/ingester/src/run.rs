//! One run: pages come in, records go out, at the same time. While a page is delivered the next one is fetched, and no
//! more than these two are held. Decides how the run ended; when it starts and whether it is tried again is decided elsewhere.

use std::time::Instant;

use service::Context;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::batch::Batch;
use crate::delivery::{Delivery, DeliveryError};
use crate::duplicates::Seen;
use crate::fetch::{Fetch, RandomUser};
use crate::metrics::IngesterMetrics;
use crate::page::Page;
use crate::plan::{Plan, Seed};
use crate::post::{Post, Publisher};
use crate::pulse::Pulse;
use crate::reach::{Probe, Reach};
use crate::report::{Outcome, Report, RunError};
use crate::settings::{IngesterSettings, RunSettings};
use crate::source::{Source, SourceError};
use crate::tally::{Counts, Tally};

/// What makes a run: both seams, and what is known across runs.
pub struct Pipeline<F = RandomUser, P = Publisher> {
    source: Source<F>,
    delivery: Delivery<P>,
    reach: Reach,
    pulse: Pulse,
    metrics: IngesterMetrics,
    run: RunSettings,
    page_size: u32,
    batch: usize,
}

/// How fetching ended.
enum Fetched {
    Everything,
    Stopped,
    Failed(SourceError),
}

impl Pipeline {
    /// The real API and the real publisher, and the probe that looks after the latter.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(settings: &IngesterSettings, context: &Context) -> Result<(Self, Probe), reqwest::Error> {
        let source = RandomUser::new(&settings.source)?;
        let publisher = Publisher::new(&settings.publisher)?;
        let reach = Reach::new(&context.health);
        let probe = Probe::new(
            publisher.clone(),
            reach.clone(),
            settings.publisher.probe_interval,
        );
        Ok((Self::over(source, publisher, reach, settings, context), probe))
    }
}

impl<F: Fetch, P: Post> Pipeline<F, P> {
    /// A pipeline between the two seams.
    pub fn over(fetch: F, post: P, reach: Reach, settings: &IngesterSettings, context: &Context) -> Self {
        Self {
            source: Source::new(fetch, &settings.source),
            delivery: Delivery::new(post, &settings.publisher, reach.clone()),
            reach,
            pulse: Pulse::watched_by(&context.health),
            metrics: IngesterMetrics::new(&context.metrics),
            run: settings.run.clone(),
            page_size: settings.source.page_size,
            batch: settings.publisher.batch,
        }
    }

    /// The metrics, for what happens between runs.
    pub fn metrics(&self) -> &IngesterMetrics {
        &self.metrics
    }

    /// The pulse, for what happens between runs.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Does one run. When `stop` is cancelled it fetches no more and delivers what it has.
    pub async fn run(&mut self, stop: &CancellationToken) -> Report {
        let seed = self.run.seed.clone().unwrap_or_else(Seed::random);
        let plan = Plan::new(seed.clone(), self.run.users, self.page_size);
        let tally = Tally::new(plan.users(), self.metrics.clone());
        let (run, started) = (Uuid::now_v7(), Instant::now());
        tracing::info!(%run, users = plan.users(), %seed, "run started");
        self.metrics.running.set(1);
        self.pulse.expect_within(self.run.deadline);
        let outcome = self.legs(run, &plan, &tally, stop).await;
        self.reach.idle();
        self.metrics.running.set(0);
        let report = Report {
            run,
            seed,
            outcome,
            counts: tally.counts(),
            took: started.elapsed(),
        };
        self.note(&report);
        report
    }

    async fn legs(&mut self, run: Uuid, plan: &Plan, tally: &Tally, stop: &CancellationToken) -> Outcome {
        // The one place of the channel is taken before its page is asked for, so that a finished page never waits
        // for room while another one waits in it.
        let (sender, pages) = mpsc::channel(1);
        let (source, delivery) = (&mut self.source, &self.delivery);
        let fetching = async { Ok(fetch_all(source, plan, tally, stop, sender).await) };
        let order = Order {
            run,
            batch: self.batch,
            seen: Seen::within(self.run.duplicate_window),
        };
        let delivering = deliver_all(delivery, order, pages, tally);
        let both = async { tokio::try_join!(fetching, delivering) };
        match tokio::time::timeout(self.run.deadline, both).await {
            Err(_) => Outcome::Failed(RunError::Deadline(self.run.deadline)),
            Ok(Err(error)) => Outcome::Failed(RunError::Delivery(error)),
            Ok(Ok((Fetched::Failed(error), ()))) => Outcome::Failed(RunError::Source(error)),
            Ok(Ok((Fetched::Stopped, ()))) => Outcome::Stopped,
            Ok(Ok((Fetched::Everything, ()))) => judged(&tally.counts()),
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

/// Fetches every page of the plan into `pages`, whose closing says that there are no more.
async fn fetch_all<F: Fetch>(
    source: &mut Source<F>,
    plan: &Plan,
    tally: &Tally,
    stop: &CancellationToken,
    pages: mpsc::Sender<Page>,
) -> Fetched {
    for request in plan.pages() {
        let next = async {
            // Without a receiver the delivery has failed, and its error ends this future too.
            let Ok(place) = pages.reserve().await else {
                return std::future::pending().await;
            };
            source.page(&request, tally).await.map(|page| (place, page))
        };
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => return Fetched::Stopped,
            next = next => next,
        };
        match next {
            Ok((place, page)) => {
                tally.fetched(&page);
                place.send(page);
            }
            Err(error) => return Fetched::Failed(error),
        }
    }
    Fetched::Everything
}

/// What the delivery of one run goes by.
struct Order {
    run: Uuid,
    batch: usize,
    seen: Seen,
}

/// Delivers every page, each record once, numbered from 0.
async fn deliver_all<P: Post>(
    delivery: &Delivery<P>,
    mut order: Order,
    mut pages: mpsc::Receiver<Page>,
    tally: &Tally,
) -> Result<(), DeliveryError> {
    let mut first = 0;
    while let Some(page) = pages.recv().await {
        let ids = page.ids().enumerate();
        let fresh: Vec<_> = ids
            .filter(|(_, id)| order.seen.admit(*id))
            .map(|(index, _)| index)
            .collect();
        tally.duplicates(page.ids().len() - fresh.len());
        for picks in fresh.chunks(order.batch) {
            delivery
                .deliver(order.run, Batch::new(&page, picks, first), tally)
                .await?;
            first += u64::try_from(picks.len()).expect("a batch has at most 1,000 records");
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "run/tests.rs"]
mod tests;
