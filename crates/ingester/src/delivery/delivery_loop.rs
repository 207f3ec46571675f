//! Delivery stage of a run: sends the batches of the outbox to the publisher, several concurrently.
//!
//! ```text
//! outbox ─▶ [ batch 7 | batch 8 ] ─▶ publisher     send window, advances when its oldest batch is acknowledged
//!                 ╰──▶ run progress: stores each outcome on arrival, also 8's before 7's
//! ```
//!
//! Invariants that hold across kills and restarts:
//! 1. Batch boundaries are fixed for the run (`batching`). A batch has one sequence number, one body and one
//!    `Idempotency-Key` in every process that sends it.
//! 2. An outcome is stored in one transaction with the counts, before the next batch enters the window. A stored outcome
//!    is never requested again. The next process sends everything else again, in order.
//! 3. At most `publisher.max_in_flight` batches are in flight, and all lie within as many batches of the oldest
//!    unacknowledged record (`send_window`).
//! 4. A run sends the same user again only after `run.duplicate_window` records, which is at least one window. It keeps both
//!    over restarts. So the earlier version is acknowledged before the later one is sent. Two versions of a user are never in flight together
//!    and reach Kafka in order. A request is retried only while no newer version was sent.
//! 5. `Retry-After` of one request applies to all.
//! 6. A permanent error or a failed store ends the run. No batch starts and no request is retried, but requests in flight
//!    are awaited, so that no outcome is lost.

use futures::stream::{FuturesOrdered, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::delivery::outbox_reader::{OutboundBatch, OutboxReader};
use crate::delivery::publisher_client::PublisherClient;
use crate::delivery::record_batch::RecordBatch;
use crate::delivery::retrying_sender::{DeliveryContext, RetryingSender};
use crate::delivery::send_window::SendWindow;
use crate::fetch::page_slots::PageSlots;
use crate::run::report::RunError;
use crate::run::run_progress::RunProgress;
use crate::store::StoreError;

/// Delivery stage of one run.
pub struct DeliveryLoop<'r, P> {
    /// Sends single batches.
    pub sender: &'r RetryingSender<P>,
    /// Progress of the run.
    pub progress: &'r RunProgress,
    /// Slots to release, one for each delivered page.
    pub slots: &'r PageSlots,
}

/// The next batch to send.
enum Next {
    /// Not read from the outbox yet.
    Unknown,
    Batch(OutboundBatch),
    /// The outbox has no further batch.
    None,
}

impl Next {
    fn of(batch: Option<OutboundBatch>) -> Self {
        batch.map_or(Self::None, Self::Batch)
    }
}

impl<P: PublisherClient> DeliveryLoop<'_, P> {
    /// Delivers every stored page, and those announced on `wakeups` until its sender is dropped.
    ///
    /// # Errors
    /// Returns [`RunError::Delivery`] or [`RunError::Store`]. Outcomes stored before remain valid.
    pub async fn run(&self, wakeups: mpsc::Receiver<()>) -> Result<(), RunError> {
        let halt = CancellationToken::new();
        let batch_size = u64::try_from(self.progress.batch_size()).unwrap_or(u64::MAX);
        let max_in_flight = self.progress.max_in_flight();
        let span = batch_size.saturating_mul(u64::try_from(max_in_flight).unwrap_or(u64::MAX));
        let mut window = SendWindow::new(max_in_flight, span);
        let mut outbox = OutboxReader::new(self.progress, wakeups);
        let mut next = Next::Unknown;
        let mut in_flight_batches = FuturesOrdered::new();
        let mut result = Ok(());
        loop {
            next = match next {
                _ if halt.is_cancelled() => Next::None,
                Next::Batch(batch) if window.admits(&batch.numbers()) => {
                    window.push(&batch.numbers());
                    in_flight_batches.push_back(self.deliver_batch(batch, &halt));
                    Next::Unknown
                }
                other => other,
            };
            tokio::select! {
                batch = outbox.next(), if matches!(next, Next::Unknown) => {
                    next = batch.map_or_else(|error| {
                        halt.cancel();
                        result = Err(RunError::Store(error));
                        Next::None
                    }, Next::of);
                }
                Some(outcome) = in_flight_batches.next() => {
                    window.pop_oldest();
                    result = result.and(outcome);
                }
                else => return result,
            }
        }
    }

    /// Delivers one batch. An error halts the other batches at once.
    async fn deliver_batch(&self, batch: OutboundBatch, halt: &CancellationToken) -> Result<(), RunError> {
        self.deliver(&batch, halt).await.inspect_err(|_| halt.cancel())
    }

    async fn deliver(&self, batch: &OutboundBatch, halt: &CancellationToken) -> Result<(), RunError> {
        let context = DeliveryContext {
            run: self.progress.run_id(),
            fetched_at: batch.chunk().fetched_at,
            stats: self.progress.stats(),
            trace: self.progress.trace(),
            halt,
        };
        let acknowledge = |part: &RecordBatch<'_>, outcome: &_| -> Result<(), StoreError> {
            if self.progress.acknowledge(batch.chunk(), part, outcome)? {
                self.slots.release();
            }
            Ok(())
        };
        let delivered = self.sender.deliver(&context, batch.batch(), acknowledge).await;
        delivered.map(drop).map_err(RunError::Delivery)
    }
}

#[cfg(test)]
mod tests;
