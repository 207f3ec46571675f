//! What waits, cut into batches in the order of their numbers. Delivers nothing and lets nothing go.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::delivery::record_batch::RecordBatch;
use crate::delivery::batching;
use crate::run::run_progress::RunProgress;
use crate::store::{StoreError, OutboxChunk};

/// What goes out in one request, with the piece that it is part of; nearly always it is all of it.
#[derive(Debug)]
pub struct OutboundBatch {
    piece: Arc<OutboxChunk>,
    places: Range<usize>,
}

impl OutboundBatch {
    /// The piece.
    #[must_use]
    pub fn piece(&self) -> &OutboxChunk {
        &self.piece
    }

    /// The run's numbers of its records.
    #[must_use]
    pub fn numbers(&self) -> Range<u64> {
        let number =
            |place| self.piece.first + u64::try_from(place).expect("a page has at most 5,000 records");
        number(self.places.start)..number(self.places.end)
    }

    /// The records.
    #[must_use]
    pub fn batch(&self) -> RecordBatch<'_> {
        let Range { start, end } = self.places;
        let places = start - self.piece.start..end - self.piece.start;
        RecordBatch::new(&self.piece.records, places, self.numbers().start)
    }
}

/// The parts of a run that are left to deliver. It holds one piece.
pub struct OutboxReader<'l> {
    ledger: &'l RunProgress,
    /// A ring for pages that came in; its end says that there will be no more.
    rings: mpsc::Receiver<()>,
    more: bool,
    latest: Option<Arc<OutboxChunk>>,
    parts: VecDeque<OutboundBatch>,
}

impl<'l> OutboxReader<'l> {
    /// What waits in the ledger, and what comes in while there are `rings`.
    #[must_use]
    pub fn new(ledger: &'l RunProgress, rings: mpsc::Receiver<()>) -> Self {
        Self {
            ledger,
            rings,
            more: true,
            latest: None,
            parts: VecDeque::new(),
        }
    }

    /// The next part, once there is one; none when there will be no more. Dropped while it waits, it loses none.
    ///
    /// # Errors
    /// When the state can't be read.
    pub async fn next(&mut self) -> Result<Option<OutboundBatch>, StoreError> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Ok(Some(part));
            }
            match self.ledger.waiting(self.latest.as_deref())? {
                Some(piece) => self.cut(piece)?,
                None if !self.more => return Ok(None),
                None => self.more = self.rings.recv().await.is_some(),
            }
        }
    }

    fn cut(&mut self, piece: OutboxChunk) -> Result<(), StoreError> {
        let parts = cut::parts(&piece.places(), self.ledger.batch(), &piece.accounted);
        if parts.is_empty() {
            return Err(StoreError::Damaged("waiting piece"));
        }
        let piece = Arc::new(piece);
        self.latest = Some(Arc::clone(&piece));
        let part = |places| OutboundBatch {
            piece: Arc::clone(&piece),
            places,
        };
        self.parts.extend(parts.into_iter().map(part));
        Ok(())
    }
}
