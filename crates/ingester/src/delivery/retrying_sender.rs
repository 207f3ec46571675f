//! Sends one batch until each record has an outcome: retries uncertain requests and splits batches that are too large.
//! `delivery_loop` selects the batches and their concurrency. The run's timeout bounds the retries.

use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use service::Backoff;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::PublisherSettings;
use crate::delivery::delivery_error::DeliveryError;
use crate::delivery::publisher_client::{PublishRequest, PublisherClient, SendError};
use crate::delivery::publisher_health::PublisherHealth;
use crate::delivery::record_batch::RecordBatch;
use crate::delivery::response::{BatchOutcome, RecordRejection, ResponseError};
use crate::delivery::retry_after_gate::RetryAfterGate;
use crate::metrics::Upstream;
use crate::run::run_stats::RunStats;
use crate::run::run_trace::RunTrace;
use crate::store::StoreError;

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendAction {
    Resend(Option<Duration>),
    ResendInvalid,
    Split,
    Fail,
}

fn action(error: &SendError, records: u64) -> SendAction {
    match error {
        SendError::Unreachable(_) | SendError::Timeout(_) | SendError::Body(_) => SendAction::Resend(None),
        SendError::Response(error) => match error {
            // A gateway may have a lower limit than the publisher. That a single record is too large, only the publisher
            // decides.
            ResponseError::Foreign { status: 413, .. } if records > 1 => SendAction::Split,
            ResponseError::Retryable { retry_after, .. } | ResponseError::Foreign { retry_after, .. } => {
                SendAction::Resend(*retry_after)
            }
            ResponseError::Invalid { .. } => SendAction::ResendInvalid,
            ResponseError::TooLarge => SendAction::Split,
            ResponseError::Unauthorized { .. } | ResponseError::Permanent { .. } => SendAction::Fail,
        },
    }
}

/// What a batch is delivered for.
pub struct DeliveryContext<'e> {
    /// Id of the run.
    pub run: Uuid,
    /// When the API's reply with the batch's records arrived, if that is known.
    pub fetched_at: Option<Timestamp>,
    /// Statistics of the run.
    pub stats: &'e RunStats,
    /// Trace of the run.
    pub trace: &'e RunTrace,
    /// When cancelled, requests in flight are awaited and no further one is sent.
    pub halt: &'e CancellationToken,
}

/// How the delivery of a batch ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Each record has an outcome.
    Complete,
    /// Halted before each record had an outcome.
    Halted,
}

/// How sending a batch ended without an error.
enum BatchResult {
    Outcome(BatchOutcome),
    TooLarge,
    Halted,
}

/// Sends batches with retries. Batches may be sent concurrently; `Retry-After` of one applies to all.
pub struct RetryingSender<P> {
    client: P,
    backoff: Backoff,
    max_invalid_responses: u32,
    retry_after: RetryAfterGate,
    publisher_health: PublisherHealth,
}

impl<P: PublisherClient> RetryingSender<P> {
    /// Creates a sender that reports to `publisher_health`.
    pub fn new(client: P, settings: &PublisherSettings, publisher_health: PublisherHealth) -> Self {
        Self {
            client,
            backoff: settings.backoff,
            max_invalid_responses: settings.max_invalid_responses,
            retry_after: RetryAfterGate::default(),
            publisher_health,
        }
    }

    /// Prepares for a run. A `Retry-After` of an earlier run no longer applies.
    pub fn begin_run(&self) {
        self.retry_after.open();
    }

    /// Delivers `batch`. On [`SendOutcome::Complete`], each of its records has an outcome. Calls `acknowledge` for each part,
    /// in order.
    ///
    /// # Errors
    /// Returns any [`DeliveryError`]. Parts acknowledged before remain valid.
    pub async fn deliver(
        &self,
        context: &DeliveryContext<'_>,
        batch: RecordBatch<'_>,
        mut acknowledge: impl FnMut(&RecordBatch<'_>, &BatchOutcome) -> Result<(), StoreError>,
    ) -> Result<SendOutcome, DeliveryError> {
        // Each split adds at most one batch to the stack.
        let mut remaining = vec![batch];
        while let Some(batch) = remaining.pop() {
            let outcome = match self.send(context, &batch).await? {
                BatchResult::Outcome(outcome) => outcome,
                BatchResult::Halted => return Ok(SendOutcome::Halted),
                BatchResult::TooLarge => match batch.halves() {
                    Some([front, back]) => {
                        remaining.extend([back, front]);
                        continue;
                    }
                    None => too_large(),
                },
            };
            acknowledge(&batch, &outcome).map_err(DeliveryError::Store)?;
        }
        Ok(SendOutcome::Complete)
    }

    async fn send(
        &self,
        context: &DeliveryContext<'_>,
        batch: &RecordBatch<'_>,
    ) -> Result<BatchResult, DeliveryError> {
        let (started, first) = (SystemTime::now(), batch.first());
        let records = u64::try_from(batch.records()).expect("a batch has at most 1,000 records");
        let request = PublishRequest {
            run: context.run,
            first,
            records,
            fetched_at: context.fetched_at,
            trace: context.trace.send(first, records),
            body: batch.body(),
        };
        let mut delays = self.backoff.delays();
        let (mut resent, mut invalid) = (0, 0);
        loop {
            if !unless_halted(self.retry_after.wait(), context.halt).await {
                return Ok(BatchResult::Halted);
            }
            let error = match self.attempt(&request, context.stats).await {
                Ok(outcome) => {
                    context.trace.record_send(first, records, started);
                    return Ok(BatchResult::Outcome(outcome));
                }
                Err(error) => error,
            };
            let action = action(&error, request.records);
            invalid = if action == SendAction::ResendInvalid {
                invalid + 1
            } else {
                0
            };
            match action {
                SendAction::Split => return Ok(BatchResult::TooLarge),
                SendAction::Fail => return Err(failed(error)),
                SendAction::ResendInvalid if invalid > self.max_invalid_responses => {
                    return Err(DeliveryError::InvalidResponses(invalid, error));
                }
                SendAction::ResendInvalid => {}
                SendAction::Resend(after) => self.retry_after.extend(after.unwrap_or_default()),
            }
            if context.halt.is_cancelled() {
                return Ok(BatchResult::Halted);
            }
            self.log_retry(&error, &request, resent, context.stats);
            resent += 1;
            let delay = delays.next().unwrap_or(self.backoff.max);
            unless_halted(sleep(delay), context.halt).await;
        }
    }

    async fn attempt(&self, request: &PublishRequest, stats: &RunStats) -> Result<BatchOutcome, SendError> {
        let sent = Instant::now();
        let result = self.client.publish(request).await;
        let label = match &result {
            Ok(outcome) => status_label(outcome).to_owned(),
            Err(error) => error.label(),
        };
        stats.record_request(Upstream::Publisher, &label, sent.elapsed());
        self.publisher_health.record_send(result.as_ref().err());
        result
    }

    /// Logs one warning per batch during an outage; the health log reports the recovery.
    fn log_retry(&self, error: &SendError, request: &PublishRequest, resent: u64, stats: &RunStats) {
        stats.record_retry(Upstream::Publisher);
        let (first, records, error) = (request.first, request.records, service::process::chain(error));
        if resent == 0 {
            tracing::warn!(first, records, error, "failed to deliver a batch, retrying");
        } else {
            tracing::debug!(first, records, error, resent, "failed to deliver a batch again");
        }
    }
}

/// Waits for `wait`. Returns false when halted first.
async fn unless_halted(wait: impl Future<Output = ()>, halt: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = halt.cancelled() => false,
        () = wait => true,
    }
}

/// Returns the status of a parsed outcome, which determines it.
fn status_label(outcome: &BatchOutcome) -> &'static str {
    match (outcome.accepted, outcome.rejected.is_empty()) {
        (_, true) => "200",
        (0, false) => "422",
        (_, false) => "207",
    }
}

fn failed(error: SendError) -> DeliveryError {
    match &error {
        SendError::Response(ResponseError::Unauthorized { .. }) => DeliveryError::Unauthorized(error),
        _ => DeliveryError::Permanent(error),
    }
}

/// The outcome of a single record that is too large for the publisher.
fn too_large() -> BatchOutcome {
    BatchOutcome {
        accepted: 0,
        rejected: vec![RecordRejection::new(0, "record: is too large for the publisher")],
    }
}

#[cfg(test)]
mod tests;
