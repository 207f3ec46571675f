//! Reads stored chunks from the outbox and splits them into batches, in order. Sends and deletes nothing.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::delivery::batching;
use crate::delivery::record_batch::RecordBatch;
use crate::run::run_progress::RunProgress;
use crate::store::StoreError;
use crate::store::outbox::OutboxChunk;

/// Records of one request, with their chunk. A batch nearly always covers its whole chunk.
#[derive(Debug)]
pub struct OutboundBatch {
    chunk: Arc<OutboxChunk>,
    range: Range<usize>,
}

impl OutboundBatch {
    /// Returns the chunk.
    #[must_use]
    pub fn chunk(&self) -> &OutboxChunk {
        &self.chunk
    }

    /// Returns the sequence numbers of the records.
    #[must_use]
    pub fn numbers(&self) -> Range<u64> {
        let number =
            |index| self.chunk.first + u64::try_from(index).expect("a page has at most 5,000 records");
        number(self.range.start)..number(self.range.end)
    }

    /// Returns the records.
    #[must_use]
    pub fn batch(&self) -> RecordBatch<'_> {
        let Range { start, end } = self.range;
        let range = start - self.chunk.start..end - self.chunk.start;
        RecordBatch::new(&self.chunk.records, range, self.numbers().start)
    }
}

/// Reads the batches that remain to be delivered. Buffers one chunk.
pub struct OutboxReader<'l> {
    progress: &'l RunProgress,
    /// Signals stored pages; closed when no more follow.
    wakeups: mpsc::Receiver<()>,
    more: bool,
    latest: Option<Arc<OutboxChunk>>,
    batches: VecDeque<OutboundBatch>,
}

impl<'l> OutboxReader<'l> {
    /// Reads the outbox of `progress`, until it is empty and `wakeups` is closed.
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

    /// Returns the next batch, or `None` after the last one. Cancel safe.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be read.
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
        let batches = batching::batches(&chunk.range(), self.progress.batch_size(), &chunk.acknowledged);
        if batches.is_empty() {
            return Err(self.progress.store().corrupt("outbox chunk"));
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
