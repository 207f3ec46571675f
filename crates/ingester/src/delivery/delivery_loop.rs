//! The way out of a run: the outbox's batches to the publisher, a few side by side.
//!
//! ```text
//! outbox ─▶ [ batch 7 | batch 8 ] ─▶ publisher        a window that slides on when its oldest batch is accounted for
//!                 ╰──▶ ledger: each verdict is kept when it comes, also 8's before 7's
//! ```
//!
//! What holds, whatever is killed when:
//! 1. A batch is one piece of the run's fixed grid (`cut`), so it has one number, one body and one `Idempotency-Key`, in
//!    whichever process it is posted.
//! 2. A verdict is kept before the next batch takes its place, in one transaction with the counts. What is kept is never
//!    posted again; everything else is, by the next process, in its order.
//! 3. At most `publisher.max_in_flight` batches are under way, and nothing goes out that lies further than so many batches
//!    from the oldest record that is not accounted for, however often the process was killed meanwhile (`window`).
//! 4. A user is sent again within a run only `run.duplicate_window` records later, which is at least one window; so the
//!    earlier version is accounted for before the later one goes out. Two versions of one user are never under way at the
//!    same time, they reach the log in their order, and a 504 is sent again only while no newer version was.
//! 5. What the publisher asks of one request (`Retry-After`) holds for all.
//! 6. A definite no, or an answer that can't be kept, ends the run: nothing is begun and nothing is sent again, but what is
//!    under way is heard to its end, so that no verdict is lost.

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

/// One run's way out.
pub struct DeliveryLoop<'r, P> {
    /// The publisher.
    pub sender: &'r RetryingSender<P>,
    /// What the run has done so far.
    pub progress: &'r RunProgress,
    /// Gets a place back for each page that is delivered.
    pub slots: &'r PageSlots,
    /// How many batches are under way at once, 1 or more.
    pub in_flight: usize,
}

/// What is to go out next.
enum Next {
    /// The outbox has to be asked.
    Unknown,
    Batch(OutboundBatch),
    /// There will be no more.
    None,
}

impl Next {
    fn of(batch: Option<OutboundBatch>) -> Self {
        batch.map_or(Self::None, Self::Batch)
    }
}

impl<P: PublisherClient> DeliveryLoop<'_, P> {
    /// Delivers every page that waits, and those that come in while there are `rings`.
    ///
    /// # Errors
    /// [`RunError::Delivery`] and [`RunError::Store`]; what is kept then holds.
    pub async fn run(&self, wakeups: mpsc::Receiver<()>) -> Result<(), RunError> {
        let halt = CancellationToken::new();
        let batch = u64::try_from(self.progress.batch_size()).unwrap_or(u64::MAX);
        let span = batch.saturating_mul(u64::try_from(self.in_flight).unwrap_or(u64::MAX));
        let mut window = SendWindow::new(self.in_flight, span);
        let mut outbox = OutboxReader::new(self.progress, wakeups);
        let mut next = Next::Unknown;
        let mut in_flight_batches = FuturesOrdered::new();
        let mut ended = Ok(());
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
                        ended = Err(RunError::Store(error));
                        Next::None
                    }, Next::of);
                }
                Some(outcome) = in_flight_batches.next() => {
                    window.pop_oldest();
                    ended = ended.and(outcome);
                }
                else => return ended,
            }
        }
    }

    /// One part, to the end of it. A failure is told to the others at once.
    async fn deliver_batch(&self, batch: OutboundBatch, halt: &CancellationToken) -> Result<(), RunError> {
        self.deliver(&batch, halt).await.inspect_err(|_| halt.cancel())
    }

    async fn deliver(&self, batch: &OutboundBatch, halt: &CancellationToken) -> Result<(), RunError> {
        let context = DeliveryContext {
            run: self.progress.run_id(),
            stats: self.progress.stats(),
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
#[path = "delivery_loop/tests.rs"]
mod tests;
