//! Batches into the publisher, whatever it takes: sends again what may not have arrived, halves what is too large, and
//! counts a record only when the publisher has said what became of it. One batch at a time goes through `deliver`; which
//! ones, and how many side by side, is `delivering`'s. Who gives up, and when, is the run.

use std::time::{Duration, Instant};

use service::Backoff;
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::delivery::publisher_client::{PublishRequest, PublisherClient, SendError};
use crate::delivery::publisher_health::PublisherHealth;
use crate::delivery::record_batch::RecordBatch;
use crate::delivery::response::{BatchOutcome, RecordRejection, ResponseError};
use crate::delivery::retry_after_gate::RetryAfterGate;
use crate::metrics::Upstream;
use crate::run::run_stats::RunStats;
use crate::settings::PublisherSettings;
use crate::store::StoreError;

/// Why a batch can't be delivered.
#[derive(Debug, Error)]
pub enum DeliveryError {
    /// The publisher does not accept our token: only the operator can mend that.
    #[error("the publisher refused our credentials")]
    Unauthorized(#[source] SendError),
    /// A definite no.
    #[error("the publisher refused a request")]
    Permanent(#[source] SendError),
    /// So many of its answers in a row don't add up; the last one is the source.
    #[error("the publisher gave {0} answers in a row that do not add up")]
    InvalidResponses(u32, #[source] SendError),
    /// What the publisher said can't be kept.
    #[error("keep what became of the records")]
    Store(#[source] StoreError),
}

/// What a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendAction {
    Resend(Option<Duration>),
    ResendInvalid,
    Split,
    Fail,
}

fn action(error: &SendError) -> SendAction {
    match error {
        SendError::Unreachable(_) | SendError::Timeout(_) | SendError::Body(_) => SendAction::Resend(None),
        SendError::Response(refusal) => match refusal {
            ResponseError::Retryable { retry_after, .. } => SendAction::Resend(*retry_after),
            ResponseError::Invalid { .. } => SendAction::ResendInvalid,
            ResponseError::TooLarge => SendAction::Split,
            ResponseError::Unauthorized { .. } | ResponseError::Permanent { .. } => SendAction::Fail,
        },
    }
}

/// For whom something is delivered.
pub struct DeliveryContext<'e> {
    /// The run.
    pub run: Uuid,
    /// What it has done so far.
    pub stats: &'e RunStats,
    /// Once it is cancelled, requests under way are heard to their end and nothing more is sent.
    pub halt: &'e CancellationToken,
}

/// How a delivery ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The publisher has accounted for each record.
    Complete,
    /// It was to send no more.
    Halted,
}

/// How sending a batch ended.
enum BatchResult {
    Answered(BatchOutcome),
    TooLarge,
    Halted,
}

/// The publisher, with patience. Batches may be delivered side by side; a pause that one is asked for holds for all.
pub struct RetryingSender<P> {
    client: P,
    backoff: Backoff,
    max_invalid_responses: u32,
    retry_after: RetryAfterGate,
    publisher_health: PublisherHealth,
}

impl<P: PublisherClient> RetryingSender<P> {
    /// Reports to `reach` whether the publisher takes records.
    pub fn new(client: P, settings: &PublisherSettings, publisher_health: PublisherHealth) -> Self {
        Self {
            client,
            backoff: settings.backoff,
            max_invalid_responses: settings.max_invalid_responses,
            retry_after: RetryAfterGate::default(),
            publisher_health,
        }
    }

    /// Delivers `batch`: when this returns [`SendOutcome::Complete`], the publisher has accounted for each of its records.
    /// `account` is told so, part by part and in their order.
    ///
    /// # Errors
    /// Each [`DeliveryError`]; what `account` was told before holds.
    pub async fn deliver(
        &self,
        context: &DeliveryContext<'_>,
        batch: RecordBatch<'_>,
        mut acknowledge: impl FnMut(&RecordBatch<'_>, &BatchOutcome) -> Result<(), StoreError>,
    ) -> Result<SendOutcome, DeliveryError> {
        // Each halving puts at most one more batch on the stack.
        let mut left = vec![batch];
        while let Some(batch) = left.pop() {
            let outcome = match self.send(context, &batch).await? {
                BatchResult::Answered(outcome) => outcome,
                BatchResult::Halted => return Ok(SendOutcome::Halted),
                BatchResult::TooLarge => match batch.halves() {
                    Some([front, back]) => {
                        left.extend([back, front]);
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
        let request = PublishRequest {
            run: context.run,
            first: batch.first(),
            records: u64::try_from(batch.records()).expect("a batch has at most 1,000 records"),
            body: batch.body(),
        };
        let mut delays = self.backoff.delays();
        let (mut resent, mut invalid) = (0, 0);
        loop {
            if !unless_halted(self.retry_after.wait(), context.halt).await {
                return Ok(BatchResult::Halted);
            }
            let error = match self.attempt(&request, context.stats).await {
                Ok(outcome) => return Ok(BatchResult::Answered(outcome)),
                Err(error) => error,
            };
            let action = action(&error);
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
            self.note(&error, &request, resent, context.stats);
            resent += 1;
            let delay = delays.next().unwrap_or(self.backoff.max);
            unless_halted(sleep(delay), context.halt).await;
        }
    }

    async fn attempt(&self, request: &PublishRequest, stats: &RunStats) -> Result<BatchOutcome, SendError> {
        let sent = Instant::now();
        let answer = self.client.publish(request).await;
        let label = match &answer {
            Ok(outcome) => status_label(outcome).to_owned(),
            Err(error) => error.label(),
        };
        stats.record_request(Upstream::Publisher, &label, sent.elapsed());
        self.publisher_health.record_send(answer.as_ref().err());
        answer
    }

    /// A publisher that is down for an hour is one warning for each batch, and `reach` tells when it is back.
    fn note(&self, error: &SendError, request: &PublishRequest, resent: u64, stats: &RunStats) {
        stats.record_retry(Upstream::Publisher);
        let (first, records, error) = (request.first, request.records, service::process::chain(error));
        if resent == 0 {
            tracing::warn!(
                first,
                records,
                error,
                "records not accounted for, sending them again"
            );
        } else {
            tracing::debug!(first, records, error, resent, "records still not accounted for");
        }
    }
}

/// Waits, unless there is no point in it any more.
async fn unless_halted(wait: impl Future<Output = ()>, halt: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = halt.cancelled() => false,
        () = wait => true,
    }
}

/// The status that a verdict came with, which `answer` has held against the counts.
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

/// One record that no smaller request can carry.
fn too_large() -> BatchOutcome {
    BatchOutcome {
        accepted: 0,
        rejected: vec![RecordRejection::new(0, "record: is too large for the publisher")],
    }
}

#[cfg(test)]
#[path = "retrying_sender/tests.rs"]
mod tests;
