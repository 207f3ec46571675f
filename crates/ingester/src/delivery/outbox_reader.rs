//! What waits, cut into batches in the order of their numbers. Delivers nothing and lets nothing go.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::delivery::batching;
use crate::delivery::record_batch::RecordBatch;
use crate::run::run_progress::RunProgress;
use crate::store::StoreError;
use crate::store::outbox::OutboxChunk;

/// What goes out in one request, with the piece that it is part of; nearly always it is all of it.
#[derive(Debug)]
pub struct OutboundBatch {
    chunk: Arc<OutboxChunk>,
    range: Range<usize>,
}

impl OutboundBatch {
    /// The piece.
    #[must_use]
    pub fn chunk(&self) -> &OutboxChunk {
        &self.chunk
    }

    /// The run's numbers of its records.
    #[must_use]
    pub fn numbers(&self) -> Range<u64> {
        let number =
            |place| self.chunk.first + u64::try_from(place).expect("a page has at most 5,000 records");
        number(self.range.start)..number(self.range.end)
    }

    /// The records.
    #[must_use]
    pub fn batch(&self) -> RecordBatch<'_> {
        let Range { start, end } = self.range;
        let range = start - self.chunk.start..end - self.chunk.start;
        RecordBatch::new(&self.chunk.records, range, self.numbers().start)
    }
}

/// The parts of a run that are left to deliver. It holds one piece.
pub struct OutboxReader<'l> {
    progress: &'l RunProgress,
    /// A ring for pages that came in; its end says that there will be no more.
    wakeups: mpsc::Receiver<()>,
    more: bool,
    latest: Option<Arc<OutboxChunk>>,
    batches: VecDeque<OutboundBatch>,
}

impl<'l> OutboxReader<'l> {
    /// What waits in the ledger, and what comes in while there are `rings`.
    #[must_use]
    pub fn new(progress: &'l RunProgress, wakeups: mpsc::Receiver<()>) -> Self {
        Self {
            progress,
            wakeups,
            more: true,
            latest: None,
            batches: VecDeque::new(),
        }
    }

    /// The next part, once there is one; none when there will be no more. Dropped while it waits, it loses none.
    ///
    /// # Errors
    /// When the state can't be read.
    pub async fn next(&mut self) -> Result<Option<OutboundBatch>, StoreError> {
        loop {
            if let Some(batch) = self.batches.pop_front() {
                return Ok(Some(batch));
            }
            match self.progress.next_chunk(self.latest.as_deref())? {
                Some(chunk) => self.split(chunk)?,
                None if !self.more => return Ok(None),
                None => self.more = self.wakeups.recv().await.is_some(),
            }
        }
    }

    fn split(&mut self, chunk: OutboxChunk) -> Result<(), StoreError> {
        let batches = batching::batches(&chunk.range(), self.progress.batch_size(), &chunk.accounted);
        if batches.is_empty() {
            return Err(StoreError::Corrupt("waiting chunk"));
        }
        let chunk = Arc::new(chunk);
        self.latest = Some(Arc::clone(&chunk));
        let batch = |range| OutboundBatch {
            chunk: Arc::clone(&chunk),
            range,
        };
        self.batches.extend(batches.into_iter().map(batch));
        Ok(())
    }
}
