//! The books of one run: what it has done so far, in memory and in the state at the same time, so that a process that
//! takes the run up counts on where the one before was killed. It neither fetches nor delivers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use crate::delivery::record_batch::RecordBatch;
use crate::delivery::response::BatchOutcome;
use crate::metrics::IngesterMetrics;
use crate::run::run_stats::RunStats;
use crate::run::{Run, RunState};
use crate::store::outbox::{Ack, FetchedPage, OutboxChunk, RejectedRecord};
use crate::store::{Store, StoreError};
use crate::transform::dedup_window::DedupWindow;
use crate::transform::page::Page;

/// RejectedRecord records that are kept one by one, in each run; the others are counted.
const MAX_REJECTED_RECORDS: u64 = 1_000;

/// The books of one run.
pub struct RunProgress {
    store: Store,
    run: Uuid,
    batch: usize,
    stats: RunStats,
    cursor: Mutex<FetchCursor>,
}

/// How far fetching has come.
struct FetchCursor {
    page: u64,
    record: u64,
    dedup: DedupWindow,
}

impl RunProgress {
    /// The books as the state has them. A repeated id is noticed among the run's latest `window`.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn open(
        store: Store,
        entry: &Run,
        metrics: IngesterMetrics,
        window: usize,
    ) -> Result<Self, StoreError> {
        let batch = entry.batch.ok_or(StoreError::Corrupt("run that has not begun"))?;
        let mut dedup = DedupWindow::new(window);
        for id in store.user_ids(entry.id)? {
            dedup.insert(id);
        }
        let cursor = FetchCursor {
            page: entry.pages_fetched,
            record: entry.next_record,
            dedup,
        };
        Ok(Self {
            store,
            run: entry.id,
            batch: usize::try_from(batch).map_err(|_| StoreError::Corrupt("number"))?,
            stats: RunStats::from_counts(entry.counts.clone(), metrics),
            cursor: Mutex::new(cursor),
        })
    }

    /// The run.
    #[must_use]
    pub fn run_id(&self) -> Uuid {
        self.run
    }

    /// How many records go out in one request.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// The counts so far.
    #[must_use]
    pub fn stats(&self) -> &RunStats {
        &self.stats
    }

    /// How many pages of the plan need not be fetched any more.
    #[must_use]
    pub fn pages_fetched(&self) -> u64 {
        self.cursor().page
    }

    /// The next page came in. Says whether any of its records is to be delivered.
    ///
    /// # Errors
    /// When the state can't be written.
    pub fn record_page(&self, page: &Page) -> Result<bool, StoreError> {
        let mut cursor = self.cursor();
        let ids: Vec<_> = page.ids().collect();
        let new_records: Vec<_> = (0..ids.len())
            .filter(|index| cursor.dedup.insert(ids[*index]))
            .collect();
        let fetched = FetchedPage {
            page: cursor.page,
            first: cursor.record,
            content: page,
            new_records: &new_records,
            chunk: self.batch,
        };
        self.store.insert_page(self.run, &fetched, || {
            self.stats.record_page(page);
            self.stats.record_duplicates(ids.len() - new_records.len());
            self.stats.counts()
        })?;
        cursor.page += 1;
        cursor.record += count(new_records.len());
        Ok(!new_records.is_empty())
    }

    /// The next piece to deliver behind the piece `after`, if one waits.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn next_chunk(&self, after: Option<&OutboxChunk>) -> Result<Option<OutboxChunk>, StoreError> {
        let after = after.map(|chunk| (chunk.page, chunk.start));
        self.store.next_chunk(self.run, after)
    }

    /// How many pages wait.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn pending_pages(&self) -> Result<usize, StoreError> {
        self.store.pending_pages(self.run)
    }

    /// The publisher has said what became of `batch`, which is part of `piece`. Says whether that was the last
    /// of its page.
    ///
    /// # Errors
    /// When the state can't be written.
    pub fn acknowledge(
        &self,
        chunk: &OutboxChunk,
        batch: &RecordBatch<'_>,
        outcome: &BatchOutcome,
    ) -> Result<bool, StoreError> {
        let kept = MAX_REJECTED_RECORDS.saturating_sub(self.stats.counts().rejected);
        let refused: Vec<_> = outcome
            .rejected
            .iter()
            .take(usize::try_from(kept).unwrap_or(usize::MAX))
            .map(|rejected| RejectedRecord {
                record: batch.first() + rejected.index,
                id: batch.record(rejected.index).map(id_of).unwrap_or_default(),
                reason: rejected.reason.clone(),
            })
            .collect();
        let start =
            usize::try_from(batch.first() - chunk.first).map_err(|_| StoreError::Corrupt("number"))?;
        let ack = Ack {
            chunk,
            range: start..start + batch.records(),
            refused: &refused,
        };
        self.store.acknowledge(self.run, &ack, || {
            self.stats.record_outcome(outcome);
            self.stats.counts()
        })
    }

    /// Leaves the run as it is, to be taken up by another process.
    ///
    /// # Errors
    /// When the state can't be written.
    pub fn suspend(&self) -> Result<(), StoreError> {
        self.store.save_counts(self.run, &self.stats.counts())
    }

    /// Ends the run.
    ///
    /// # Errors
    /// When the state can't be written.
    pub fn finish(&self, state: RunState, reason: Option<&str>) -> Result<(), StoreError> {
        let counts = self.stats.counts();
        self.store
            .finish_run(self.run, state, reason, &counts, Timestamp::now())
    }

    /// A panic elsewhere ends the process before the place is used again.
    fn cursor(&self) -> MutexGuard<'_, FetchCursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct Identified<'a> {
    id: &'a str,
}

fn id_of(record: &[u8]) -> String {
    serde_json::from_slice::<Identified<'_>>(record)
        .map(|record| record.id.to_owned())
        .unwrap_or_default()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).expect("what is in store can be counted in 64 bits")
}
