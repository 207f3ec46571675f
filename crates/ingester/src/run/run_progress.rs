//! Progress of one run, kept in memory and in the store, so that a resumed run continues where a killed process left it.
//! Neither fetches nor delivers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use model::Contract;
use service::Tracer;
use uuid::Uuid;

use crate::delivery::record_batch::RecordBatch;
use crate::delivery::response::BatchOutcome;
use crate::metrics::IngesterMetrics;
use crate::run::range_set::RangeSet;
use crate::run::run_stats::{RunStats, count};
use crate::run::run_trace::RunTrace;
use crate::run::{DeliverySpec, Run, RunState};
use crate::store::outbox::{Ack, FetchedPage, MAX_REJECTED_RECORDS, OutboxChunk, RejectedRecord};
use crate::store::{Store, StoreError};
use crate::transform::dedup_window::DedupWindow;
use crate::transform::page::Page;

/// Progress of one run.
pub struct RunProgress {
    store: Store,
    run: Uuid,
    delivery: DeliverySpec,
    stats: RunStats,
    cursor: Mutex<FetchCursor>,
    trace: RunTrace,
}

/// Position of the fetch stage.
struct FetchCursor {
    page: u64,
    record: u64,
    dedup: DedupWindow,
}

impl RunProgress {
    /// Loads the progress of a started run.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be read.
    pub fn open(store: Store, run: &Run, metrics: IngesterMetrics) -> Result<Self, StoreError> {
        let delivery = run
            .delivery
            .ok_or_else(|| store.corrupt("batch size of a started run"))?;
        let mut dedup = DedupWindow::new(delivery.duplicate_window);
        for id in store.user_ids(run.id)? {
            dedup.insert(id);
        }
        let cursor = FetchCursor {
            page: run.pages_fetched,
            record: run.next_record,
            dedup,
        };
        Ok(Self {
            store,
            run: run.id,
            delivery,
            stats: RunStats::from_counts(run.counts.clone(), metrics),
            cursor: Mutex::new(cursor),
            trace: RunTrace::default(),
        })
    }

    /// Exports the spans of the run with `tracer`.
    #[must_use]
    pub fn with_tracer(mut self, tracer: &Tracer) -> Self {
        self.trace = RunTrace::new(tracer, self.run);
        self
    }

    /// Returns the trace of the run.
    #[must_use]
    pub fn trace(&self) -> &RunTrace {
        &self.trace
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the id of the run.
    #[must_use]
    pub fn run_id(&self) -> Uuid {
        self.run
    }

    /// Returns the number of records per request.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.delivery.batch_size
    }

    /// Returns the maximum number of batches in flight.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.delivery.max_in_flight
    }

    /// Returns the statistics of the run.
    #[must_use]
    pub fn stats(&self) -> &RunStats {
        &self.stats
    }

    /// Returns the number of fetched pages of the plan.
    #[must_use]
    pub fn pages_fetched(&self) -> u64 {
        self.cursor().page
    }

    /// Stores the next page. Returns whether it has any record to deliver.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be written.
    pub fn record_page(&self, page: &Page) -> Result<bool, StoreError> {
        let mut cursor = self.cursor();
        let ids: Vec<_> = page.ids().collect();
        let new_records: Vec<_> = (0..ids.len())
            .filter(|index| cursor.dedup.insert(ids[*index].clone()))
            .collect();
        let fetched = FetchedPage {
            page: cursor.page,
            first: cursor.record,
            content: page,
            new_records: &new_records,
            chunk_size: self.delivery.batch_size,
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

    /// Returns the next chunk to deliver after the chunk `after`.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be read.
    pub fn next_chunk(&self, after: Option<&OutboxChunk>) -> Result<Option<OutboxChunk>, StoreError> {
        let after = after.map(|chunk| (chunk.page, chunk.start));
        self.store.next_chunk(self.run, after)
    }

    /// Returns the number of pages in the outbox.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be read.
    pub fn pending_pages(&self) -> Result<usize, StoreError> {
        self.store.pending_pages(self.run)
    }

    /// Stores the publisher's outcome for `batch`, a part of `chunk`. Returns whether its page is complete.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be written.
    pub fn acknowledge(
        &self,
        chunk: &OutboxChunk,
        batch: &RecordBatch<'_>,
        outcome: &BatchOutcome,
    ) -> Result<bool, StoreError> {
        let capacity = u64::from(MAX_REJECTED_RECORDS).saturating_sub(self.stats.counts().rejected);
        let rejected: Vec<_> = outcome
            .rejected
            .iter()
            .take(usize::try_from(capacity).unwrap_or(usize::MAX))
            .map(|rejected| RejectedRecord {
                record: batch.first() + rejected.index,
                id: batch.record(rejected.index).map(key_of).unwrap_or_default(),
                reason: rejected.reasons.join("; "),
            })
            .collect();
        let start = usize::try_from(batch.first() - chunk.first).map_err(|_| self.store.corrupt("number"))?;
        let mut positions = RangeSet::default();
        for rejected in &outcome.rejected {
            let index = usize::try_from(rejected.index).map_err(|_| self.store.corrupt("number"))?;
            positions.insert(start + index..start + index + 1);
        }
        let ack = Ack {
            chunk,
            range: start..start + batch.records(),
            rejected: positions,
            rejected_records: &rejected,
        };
        self.store.acknowledge(self.run, &ack, || {
            self.stats.record_outcome(outcome);
            self.stats.counts()
        })
    }

    /// Saves the counts and leaves the run to another process.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be written.
    pub fn suspend(&self) -> Result<(), StoreError> {
        self.store.save_counts(self.run, &self.stats.counts())
    }

    /// Ends the run. Returns its state: `cancelled` instead of `state` if it was cancelled meanwhile.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be written.
    pub fn finish(&self, state: RunState, reason: Option<&str>) -> Result<RunState, StoreError> {
        let counts = self.stats.counts();
        self.store
            .finish_run(self.run, state, reason, &counts, Timestamp::now())
    }

    /// Ignores poisoning: a panic ends the process before the cursor is used again.
    fn cursor(&self) -> MutexGuard<'_, FetchCursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of a stored record, also of an invalid one.
fn key_of(record: &[u8]) -> String {
    let contract = Contract::user();
    let key = match contract.parse_lenient(record) {
        Ok(record) => Some(record.key()),
        Err(invalid) => invalid.key().cloned(),
    };
    key.map(|key| key.to_string()).unwrap_or_default()
}
