//! Batches into the publisher, whatever it takes: sends again what may not have arrived, halves what is too large, and
//! counts a record only when the publisher has said what became of it. One batch at a time goes through `deliver`; which
//! ones, and how many side by side, is `delivering`'s. Who gives up, and when, is the run.

use std::time::{Duration, Instant};

use service::Backoff;
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::answer::{Refusal, Rejected, Verdict};
use crate::batch::Batch;
use crate::memory::MemoryError;
use crate::metrics::Leg;
use crate::pause::Pause;
use crate::post::{Parcel, Post, PostError};
use crate::reach::Reach;
use crate::settings::PublisherSettings;
use crate::tally::Tally;

/// Why a batch can't be delivered.
#[derive(Debug, Error)]
pub enum DeliveryError {
    /// The publisher does not accept our token: only the operator can mend that.
    #[error("the publisher refused our credentials")]
    Credentials(#[source] PostError),
    /// A definite no.
    #[error("the publisher refused a request")]
    Refused(#[source] PostError),
    /// So many of its answers in a row don't add up; the last one is the source.
    #[error("the publisher gave {0} answers in a row that do not add up")]
    Odd(u32, #[source] PostError),
    /// What the publisher said can't be kept.
    #[error("keep what became of the records")]
    Memory(#[source] MemoryError),
}

/// What a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Resend(Option<Duration>),
    ResendIfRare,
    Halve,
    Fail,
}

fn action(error: &PostError) -> Action {
    match error {
        PostError::Unreachable(_) | PostError::Timeout(_) | PostError::Answer(_) => Action::Resend(None),
        PostError::Refused(refusal) => match refusal {
            Refusal::Later { retry_after, .. } => Action::Resend(*retry_after),
            Refusal::Odd { .. } => Action::ResendIfRare,
            Refusal::TooLarge => Action::Halve,
            Refusal::Credentials { .. } | Refusal::Definite { .. } => Action::Fail,
        },
    }
}

/// For whom something is delivered.
pub struct Errand<'e> {
    /// The run.
    pub run: Uuid,
    /// What it has done so far.
    pub tally: &'e Tally,
    /// Once it is cancelled, requests under way are heard to their end and nothing more is sent.
    pub halt: &'e CancellationToken,
}

/// How a delivery ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The publisher has accounted for each record.
    Whole,
    /// It was to send no more.
    LeftOff,
}

/// How sending a batch ended.
enum Sent {
    Judged(Verdict),
    TooLarge,
    LeftOff,
}

/// The publisher, with patience. Batches may be delivered side by side; a pause that one is asked for holds for all.
pub struct Delivery<P> {
    post: P,
    backoff: Backoff,
    max_invalid_responses: u32,
    pause: Pause,
    reach: Reach,
}

impl<P: Post> Delivery<P> {
    /// Reports to `reach` whether the publisher takes records.
    pub fn new(post: P, settings: &PublisherSettings, reach: Reach) -> Self {
        Self {
            post,
            backoff: settings.backoff,
            max_invalid_responses: settings.max_invalid_responses,
            pause: Pause::default(),
            reach,
        }
    }

    /// Delivers `batch`: when this returns [`Delivered::Whole`], the publisher has accounted for each of its records.
    /// `account` is told so, part by part and in their order.
    ///
    /// # Errors
    /// Each [`DeliveryError`]; what `account` was told before holds.
    pub async fn deliver(
        &self,
        errand: &Errand<'_>,
        batch: Batch<'_>,
        mut account: impl FnMut(&Batch<'_>, &Verdict) -> Result<(), MemoryError>,
    ) -> Result<Delivered, DeliveryError> {
        // Each halving puts at most one more batch on the stack.
        let mut left = vec![batch];
        while let Some(batch) = left.pop() {
            let verdict = match self.send(errand, &batch).await? {
                Sent::Judged(verdict) => verdict,
                Sent::LeftOff => return Ok(Delivered::LeftOff),
                Sent::TooLarge => match batch.halves() {
                    Some([front, back]) => {
                        left.extend([back, front]);
                        continue;
                    }
                    None => too_large(),
                },
            };
            account(&batch, &verdict).map_err(DeliveryError::Memory)?;
        }
        Ok(Delivered::Whole)
    }

    async fn send(&self, errand: &Errand<'_>, batch: &Batch<'_>) -> Result<Sent, DeliveryError> {
        let parcel = Parcel {
            run: errand.run,
            first: batch.first(),
            records: u64::try_from(batch.records()).expect("a batch has at most 1,000 records"),
            body: batch.body(),
        };
        let mut delays = self.backoff.delays();
        let (mut resent, mut odd) = (0, 0);
        loop {
            if !goes_on(self.pause.over(), errand.halt).await {
                return Ok(Sent::LeftOff);
            }
            let error = match self.attempt(&parcel, errand.tally).await {
                Ok(verdict) => return Ok(Sent::Judged(verdict)),
                Err(error) => error,
            };
            let action = action(&error);
            odd = if action == Action::ResendIfRare {
                odd + 1
            } else {
                0
            };
            match action {
                Action::Halve => return Ok(Sent::TooLarge),
                Action::Fail => return Err(failed(error)),
                Action::ResendIfRare if odd > self.max_invalid_responses => {
                    return Err(DeliveryError::Odd(odd, error));
                }
                Action::ResendIfRare => {}
                Action::Resend(after) => self.pause.ask(after.unwrap_or_default()),
            }
            if errand.halt.is_cancelled() {
                return Ok(Sent::LeftOff);
            }
            self.note(&error, &parcel, resent, errand.tally);
            resent += 1;
            let delay = delays.next().unwrap_or(self.backoff.max);
            goes_on(sleep(delay), errand.halt).await;
        }
    }

    async fn attempt(&self, parcel: &Parcel, tally: &Tally) -> Result<Verdict, PostError> {
        let sent = Instant::now();
        let answer = self.post.post(parcel).await;
        let label = match &answer {
            Ok(verdict) => status_of(verdict).to_owned(),
            Err(error) => error.label(),
        };
        tally.request(Leg::Publisher, &label, sent.elapsed());
        self.reach.delivered(answer.as_ref().err());
        answer
    }

    /// A publisher that is down for an hour is one warning for each batch, and `reach` tells when it is back.
    fn note(&self, error: &PostError, parcel: &Parcel, resent: u64, tally: &Tally) {
        tally.retried(Leg::Publisher);
        let (first, records, error) = (parcel.first, parcel.records, service::process::chain(error));
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
async fn goes_on(wait: impl Future<Output = ()>, halt: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = halt.cancelled() => false,
        () = wait => true,
    }
}

/// The status that a verdict came with, which `answer` has held against the counts.
fn status_of(verdict: &Verdict) -> &'static str {
    match (verdict.accepted, verdict.rejected.is_empty()) {
        (_, true) => "200",
        (0, false) => "422",
        (_, false) => "207",
    }
}

fn failed(error: PostError) -> DeliveryError {
    match &error {
        PostError::Refused(Refusal::Credentials { .. }) => DeliveryError::Credentials(error),
        _ => DeliveryError::Refused(error),
    }
}

/// One record that no smaller request can carry.
fn too_large() -> Verdict {
    Verdict {
        accepted: 0,
        rejected: vec![Rejected::new(0, "record: is too large for the publisher")],
    }
}

#[cfg(test)]
#[path = "delivery/tests.rs"]
mod tests;
