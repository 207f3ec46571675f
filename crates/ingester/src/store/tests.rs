//! Tests of the store, and what they share: runs, pages and state files.

mod cursors;
mod deletion;
mod events;
mod outbox;
mod runs;
mod state_file;
mod upgrades;

use std::ops::Range;

use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::run::range_set::RangeSet;
use crate::run::run_stats::RunCounts;
use crate::run::{DeliverySpec, RunFilter, RunSpec, RunState, Trigger};
use crate::store::outbox::{Ack, FetchedPage, OutboxChunk};
use crate::transform::page::Page;

/// Returns the path of a state file in a folder of its own.
fn new_state_file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    (folder, path)
}

fn spec(trigger: Trigger) -> RunSpec {
    RunSpec {
        trigger,
        scheduled: None,
        seed: "abc".parse().unwrap(),
        users: 12,
        page_size: 5,
        pages: Some("2..3".parse().unwrap()),
        retry: 3,
        requested_by: Some("operator".to_owned()),
    }
}

fn delivery(batch_size: usize) -> DeliverySpec {
    DeliverySpec {
        batch_size,
        max_in_flight: batch_size + 1,
        duplicate_window: batch_size + 2,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn counts(fetched: u64) -> RunCounts {
    RunCounts {
        requested: 7,
        fetched,
        ..RunCounts::default()
    }
}

/// Stores a page in chunks of three records.
fn insert_page(store: &Store, run: Uuid, number: u64, page: &Page) {
    insert_page_in_chunks(store, run, number, page, 3);
}

fn insert_page_in_chunks(store: &Store, run: Uuid, number: u64, page: &Page, chunk_size: usize) {
    let new_records: Vec<_> = (0..page.ids().len()).collect();
    let fetched = FetchedPage {
        page: number,
        first: number * 5,
        content: page,
        new_records: &new_records,
        chunk_size,
    };
    store
        .insert_page(run, &fetched, || counts(5 * (number + 1)))
        .unwrap();
}

/// Stores a run.
fn queued_run(store: &Store) -> Uuid {
    let spec = spec(Trigger::Manual);
    store.insert_run(&spec, RunState::Queued, None, at(0)).unwrap()
}

/// Stores a run that has started.
fn started_run(store: &Store) -> Uuid {
    let run = queued_run(store);
    store.start_run(run, &delivery(50), at(0)).unwrap();
    run
}

/// Ends a run.
fn finish(store: &Store, run: Uuid, state: RunState, second: i64) {
    store
        .finish_run(run, state, Some("why"), &counts(0), at(second))
        .unwrap();
}

/// Accepts records of a chunk. Returns whether its page is complete.
fn accept(store: &Store, run: Uuid, chunk: &OutboxChunk, range: Range<usize>) -> bool {
    let ack = Ack {
        chunk,
        range,
        rejected: RangeSet::default(),
        rejected_records: &[],
    };
    store.acknowledge(run, &ack, || counts(0)).unwrap()
}

/// Returns the ids of the runs that match the filter.
fn ids(store: &Store, filter: &RunFilter) -> Vec<Uuid> {
    let runs = store.runs(filter).unwrap().into_iter();
    runs.map(|run| run.id).collect()
}
