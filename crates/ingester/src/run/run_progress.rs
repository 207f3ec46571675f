//! The books of one run: what it has done so far, in memory and in the state at the same time, so that a process that
//! takes the run up counts on where the one before was killed. It neither fetches nor delivers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use crate::delivery::response::BatchOutcome;
use crate::delivery::record_batch::RecordBatch;
use crate::transform::dedup_window::DedupWindow;
use crate::run::{Run, RunState};
use crate::store::{FetchedPage, Ack, Store, StoreError, RejectedRecord, OutboxChunk};
use crate::metrics::IngesterMetrics;
use crate::transform::page::Page;
use crate::run::run_stats::RunStats;

/// RejectedRecord records that are kept one by one, in each run; the others are counted.
const MOST_REFUSED: u64 = 1_000;

/// The books of one run.
pub struct RunProgress {
    memory: Store,
    run: Uuid,
    batch: usize,
    tally: RunStats,
    place: Mutex<FetchCursor>,
}

/// How far fetching has come.
struct FetchCursor {
    page: u64,
    record: u64,
    seen: DedupWindow,
}

impl RunProgress {
    /// The books as the state has them. A repeated id is noticed among the run's latest `window`.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn open(
        memory: Store,
        entry: &Run,
        metrics: IngesterMetrics,
        window: usize,
    ) -> Result<Self, StoreError> {
        let batch = entry
            .batch
            .ok_or(StoreError::Damaged("run that has not begun"))?;
        let mut seen = DedupWindow::within(window);
        for id in memory.ids(entry.id)? {
            seen.admit(id);
        }
        let place = FetchCursor {
            page: entry.pages_fetched,
            record: entry.next_record,
            seen,
        };
        Ok(Self {
            memory,
            run: entry.id,
            batch: usize::try_from(batch).map_err(|_| StoreError::Damaged("number"))?,
            tally: RunStats::resumed(entry.counts.clone(), metrics),
            place: Mutex::new(place),
        })
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> Uuid {
        self.run
    }

    /// How many records go out in one request.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The counts so far.
    #[must_use]
    pub fn tally(&self) -> &RunStats {
        &self.tally
    }

    /// How many pages of the plan need not be fetched any more.
    #[must_use]
    pub fn pages_fetched(&self) -> u64 {
        self.place().page
    }

    /// The next page came in. Says whether any of its records is to be delivered.
    ///
    /// # Errors
    /// When the state can't be written.
    pub fn fetched(&self, page: &Page) -> Result<bool, StoreError> {
        let mut place = self.place();
        let ids: Vec<_> = page.ids().collect();
        let fresh: Vec<_> = (0..ids.len())
            .filter(|index| place.seen.admit(ids[*index]))
            .collect();
        let fetched = FetchedPage {
            page: place.page,
            first: place.record,
            content: page,
            fresh: &fresh,
            piece: self.batch,
        };
        self.memory.fetched(self.run, &fetched, || {
            self.tally.fetched(page);
            self.tally.duplicates(ids.len() - fresh.len());
            self.tally.counts()
        })?;
        place.page += 1;
        place.record += count(fresh.len());
        Ok(!fresh.is_empty())
    }

    /// The next piece to deliver behind the piece `after`, if one waits.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn waiting(&self, after: Option<&OutboxChunk>) -> Result<Option<OutboxChunk>, StoreError> {
        let after = after.map(|piece| (piece.page, piece.start));
        self.memory.waiting(self.run, after)
    }

    /// How many pages wait.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn waiting_pages(&self) -> Result<usize, StoreError> {
        self.memory.waiting_pages(self.run)
    }

    /// The publisher has said what became of `batch`, which is part of `piece`. Says whether that was the last
    /// of its page.
    ///
    /// # Errors
    /// When the state can't be written.
    pub fn accounted(
        &self,
        piece: &OutboxChunk,
        batch: &RecordBatch<'_>,
        verdict: &BatchOutcome,
    ) -> Result<bool, StoreError> {
        let kept = MOST_REFUSED.saturating_sub(self.tally.counts().rejected);
        let refused: Vec<_> = verdict
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
            usize::try_from(batch.first() - piece.first).map_err(|_| StoreError::Damaged("number"))?;
        let heard = Ack {
            piece,
            places: start..start + batch.records(),
            refused: &refused,
        };
        self.memory.accounted(self.run, &heard, || {
            self.tally.accounted(verdict);
            self.tally.counts()
        })
    }

    /// Leaves the run as it is, to be taken up by another process.
    ///
    /// # Errors
    /// When the state can't be written.
    pub fn leave(&self) -> Result<(), StoreError> {
        self.memory.note(self.run, &self.tally.counts())
    }

    /// Ends the run.
    ///
    /// # Errors
    /// When the state can't be written.
    pub fn end(&self, state: RunState, reason: Option<&str>) -> Result<(), StoreError> {
        let counts = self.tally.counts();
        self.memory
            .end(self.run, state, reason, &counts, Timestamp::now())
    }

    /// A panic elsewhere ends the process before the place is used again.
    fn place(&self) -> MutexGuard<'_, FetchCursor> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
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
    u64::try_from(number).expect("what is in memory can be counted in 64 bits")
}
