//! Queries the ledger for each ended run until its verdict is final, with backoff. `verdict` decides.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::IntCounterVec;
use service::Backoff;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use crate::config::PipelineSettings;
use crate::ledger::ledger_client::RunLedger;
use crate::ledger::verdict::{LedgerCounts, LedgerVerdict, VerdictRules, VerdictState};
use crate::run::Run;
use crate::store::{Store, StoreError};

/// Between two requests for a run, and after an error.
const BACKOFF: Backoff = Backoff {
    initial: Duration::from_millis(250),
    max: Duration::from_secs(30),
};
/// The same while a command waits for the verdict.
const COMMAND_BACKOFF: Backoff = Backoff {
    max: Duration::from_secs(1),
    ..BACKOFF
};

type Delays = Box<dyn Iterator<Item = Duration> + Send>;

/// Finds the verdicts of ended runs.
pub struct VerdictLoop<L> {
    ledger: L,
    store: Store,
    rules: VerdictRules,
    verdicts: IntCounterVec,
    open: HashMap<Uuid, OpenRun>,
    /// The delays while requests to the streamer fail, and the end of the current one.
    outage: Option<(Delays, Instant)>,
}

/// A run without a final verdict.
struct OpenRun {
    /// The number of missing records, and since when it has not become smaller.
    missing: Option<(u64, Instant)>,
    delays: Delays,
    due: Instant,
}

impl OpenRun {
    fn new() -> Self {
        Self {
            missing: None,
            delays: Box::new(BACKOFF.delays()),
            due: Instant::now(),
        }
    }

    /// Returns for how long the number of missing records has not become smaller.
    fn unchanged(&mut self, missing: u64) -> Duration {
        match self.missing {
            Some((fewest, since)) if fewest <= missing => since.elapsed(),
            _ => {
                self.missing = Some((missing, Instant::now()));
                Duration::ZERO
            }
        }
    }
}

impl<L: RunLedger> VerdictLoop<L> {
    /// Creates a loop over the runs in `store`. Counts final verdicts in `verdicts`.
    pub fn new(ledger: L, store: Store, settings: &PipelineSettings, verdicts: IntCounterVec) -> Self {
        Self {
            ledger,
            store,
            rules: VerdictRules::new(settings),
            verdicts,
            open: HashMap::new(),
            outage: None,
        }
    }

    /// Runs until it is dropped or the store fails. `run_ended` notifies of runs that have ended.
    pub async fn run(mut self, mut run_ended: watch::Receiver<()>) -> StoreError {
        loop {
            let next = match self.check_due().await {
                Ok(next) => next,
                Err(error) => return error,
            };
            let wait = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = run_ended.changed() => {}
                () = wait => {}
            }
        }
    }

    /// Queries the ledger until the verdict of an ended run is final, for at most `max`. Returns the latest verdict.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store fails.
    pub async fn wait_for_verdict(&mut self, run: Uuid, max: Duration) -> Result<LedgerVerdict, StoreError> {
        let final_verdict = async {
            let mut delays = COMMAND_BACKOFF.delays();
            loop {
                let stored = self
                    .store
                    .run(run)?
                    .ok_or_else(|| self.store.corrupt("run without a verdict"))?;
                match stored.verdict.clone() {
                    Some(verdict) if verdict.state.is_final() => return Ok(verdict),
                    _ if !stored.has_numbers => return Ok(LedgerVerdict::default()),
                    _ => drop(self.check(&stored).await?),
                }
                sleep(delays.next().unwrap_or(COMMAND_BACKOFF.max)).await;
            }
        };
        let verdict = timeout(max, final_verdict).await;
        verdict.unwrap_or_else(|_| {
            Ok(self
                .store
                .run(run)?
                .and_then(|run| run.verdict)
                .unwrap_or_default())
        })
    }

    /// Checks each run that is due. Returns when the next one is due.
    async fn check_due(&mut self) -> Result<Option<Instant>, StoreError> {
        let runs = self.store.runs_without_verdict()?;
        self.open.retain(|id, _| runs.iter().any(|run| run.id == *id));
        let mut next: Option<Instant> = None;
        for run in runs {
            let due = self.open.entry(run.id).or_insert_with(OpenRun::new).due;
            let due = self.outage.as_ref().map_or(due, |(_, until)| due.max(*until));
            let due = if due <= Instant::now() {
                self.check(&run).await?
            } else {
                Some(due)
            };
            next = due.into_iter().chain(next).min();
        }
        Ok(next)
    }

    /// Queries the ledger for one run and stores the verdict. Returns when to query it again, unless the verdict is final.
    async fn check(&mut self, run: &Run) -> Result<Option<Instant>, StoreError> {
        let ended = run.ended.ok_or_else(|| self.store.corrupt("end of a run"))?;
        let verdict = match self.rules.expired(ended, Timestamp::now()) {
            Some(expired) => expired,
            None => self.query_ledger(run).await?,
        };
        if run.verdict.as_ref() != Some(&verdict) {
            self.store.save_verdict(run.id, &verdict)?;
        }
        if verdict.state.is_final() {
            self.open.remove(&run.id);
            self.report(run.id, &verdict);
            return Ok(None);
        }
        let open = self.open.entry(run.id).or_insert_with(OpenRun::new);
        open.due = Instant::now() + open.delays.next().unwrap_or(BACKOFF.max);
        Ok(Some(
            self.outage
                .as_ref()
                .map_or(open.due, |(_, until)| open.due.max(*until)),
        ))
    }

    async fn query_ledger(&mut self, run: &Run) -> Result<LedgerVerdict, StoreError> {
        let numbers = self
            .store
            .numbers(run.id)?
            .ok_or_else(|| self.store.corrupt("record numbers of a run"))?;
        let ranges = match self.ledger.run(run.id).await {
            Ok(ranges) => ranges,
            Err(error) => {
                let error = service::process::chain(&error);
                self.wait_for_streamer(&error);
                return Ok(run.verdict.clone().unwrap_or_default().after_error(error));
            }
        };
        self.outage = None;
        let counts = LedgerCounts::of(&numbers, &ranges);
        let open = self.open.entry(run.id).or_insert_with(OpenRun::new);
        Ok(self.rules.verdict(counts, open.unchanged(counts.missing)))
    }

    /// After an error, the other runs wait, too. Logs the first error of an outage.
    fn wait_for_streamer(&mut self, error: &str) {
        let mut delays = match self.outage.take() {
            Some((delays, _)) => delays,
            None => {
                tracing::warn!(error, "failed to read the ledger, retrying");
                Box::new(BACKOFF.delays())
            }
        };
        let delay = delays.next().unwrap_or(BACKOFF.max);
        self.outage = Some((delays, Instant::now() + delay));
    }

    fn report(&self, run: Uuid, verdict: &LedgerVerdict) {
        self.verdicts.with_label_values(&[verdict.state.name()]).inc();
        let (verdict, reason) = (verdict.state.name(), verdict.reason.as_deref());
        if verdict == VerdictState::Violated.name() {
            tracing::error!(%run, reason, "run is not conserved");
        } else {
            tracing::info!(%run, verdict, reason, "run was compared with the ledger");
        }
    }
}

#[cfg(test)]
mod tests;
