//! Tests of the store: runs, the outbox, upgrades of the schema, and deletion of personal data.

use uuid::Uuid;

use super::*;
use crate::config::PipelineSettings;
use crate::delivery::record_batch::tests::page_of;
use crate::ledger::verdict::LedgerVerdict;
use crate::run::range_set::RangeSet;
use crate::run::run_stats::RunCounts;
use crate::run::{DeliverySpec, RunFilter, RunSpec, RunState, Trigger};
use crate::store::cursors::SchedulePause;
use crate::store::events::Event;
use crate::store::outbox::{Ack, FetchedPage, OutboxChunk, RejectedRecord};
use crate::transform::page::Page;

/// Schema version 4, from which the earlier ones are derived.
const SCHEMA_4: &str = include_str!("tests/schema_v4.sql");

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
fn insert_page(store: &Store, run: uuid::Uuid, number: u64, page: &Page) {
    insert_page_in_chunks(store, run, number, page, 3);
}

fn insert_page_in_chunks(store: &Store, run: uuid::Uuid, number: u64, page: &Page, chunk_size: usize) {
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

#[test]
fn stored_run_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Store::open(&path).unwrap();
    let run = store
        .insert_run(&spec(Trigger::Backfill), RunState::Queued, None, at(5))
        .unwrap();
    assert_eq!(store.start_run(run, &delivery(50), at(6)).unwrap().resumed, 0);
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.unfinished_runs().unwrap().len(), 1);
    let stored = store.start_run(run, &delivery(70), at(9)).unwrap();
    assert_eq!(
        (stored.resumed, stored.started, stored.state),
        (1, Some(at(6)), RunState::Running)
    );
    assert_eq!(stored.spec(), spec(Trigger::Backfill));
    assert_eq!(stored.delivery, Some(delivery(50)), "as it was started");
    assert_eq!(stored.counts.requested, 7);
    store
        .finish_run(run, RunState::Failed, Some("why"), &counts(3), at(10))
        .unwrap();
    let stored = store.run(run).unwrap().unwrap();
    assert_eq!(
        (stored.reason.as_deref(), stored.ended, stored.counts),
        (Some("why"), Some(at(10)), counts(3))
    );
    assert!(
        store.unfinished_runs().unwrap().is_empty() && store.start_run(run, &delivery(50), at(11)).is_err()
    );
}

#[test]
fn writer_does_not_block_readers() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state.db")).unwrap();
    let mode = store.read(|connection| {
        Ok(connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0))?)
    });
    assert_eq!(mode.unwrap(), "wal");
}

#[test]
fn page_is_pending_until_its_last_record_is_acknowledged() {
    let store = Store::in_memory().unwrap();
    let run = store
        .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(0))
        .unwrap();
    let page = page_of(5);
    insert_page(&store, run, 0, &page);
    insert_page(&store, run, 1, &page_of(2));
    let next_chunk = |after| store.next_chunk(run, after).unwrap().unwrap();
    let (front, back) = (next_chunk(None), next_chunk(Some((0, 0))));
    assert_eq!((front.page, front.first, front.range()), (0, 0, 0..3));
    assert_eq!(
        (&front.records, &back.records),
        (&page.records(&[0, 1, 2]), &page.records(&[3, 4]))
    );
    let next = next_chunk(Some((0, 3)));
    assert_eq!((back.range(), next.page, next.first), (3..5, 1, 5));
    assert!(store.next_chunk(run, Some((1, 0))).unwrap().is_none());
    let ack = |chunk, range, rejected_records: &[RejectedRecord]| {
        let rejected = rejected_records.iter().map(|rejected| {
            let index = usize::try_from(rejected.record).unwrap();
            index..index + 1
        });
        let ack = Ack {
            chunk,
            range,
            rejected: rejected.fold(RangeSet::default(), |set, range| set.union(&range.into())),
            rejected_records,
        };
        store.acknowledge(run, &ack, || counts(9)).unwrap()
    };
    let rejected = RejectedRecord {
        record: 4,
        id: "x".into(),
        reason: "email: is blank".into(),
    };
    assert!(!ack(&back, 3..5, std::slice::from_ref(&rejected)));
    assert_eq!(
        next_chunk(Some((0, 0))).page,
        1,
        "a chunk is deleted with its last record"
    );
    assert!(!ack(&front, 0..1, &[]));
    assert_eq!(next_chunk(None).acknowledged.to_string(), "0-1,3-5");
    assert_eq!(store.pending_pages(run).unwrap(), 2);
    assert!(ack(&front, 1..3, &[]));
    assert_eq!((next_chunk(None).page, store.pending_pages(run).unwrap()), (1, 1));
    assert_eq!(store.rejected_records(run, 10).unwrap(), [rejected]);
    let stored = store.run(run).unwrap().unwrap();
    assert_eq!(
        (stored.pages_fetched, stored.next_record, stored.counts.fetched),
        (2, 7, 9)
    );
    assert_eq!(store.user_ids(run).unwrap().len(), 7, "including delivered pages");
    store
        .finish_run(run, RunState::Cancelled, None, &counts(9), at(1))
        .unwrap();
    assert_eq!(
        (
            store.pending_pages(run).unwrap(),
            store.user_ids(run).unwrap().len()
        ),
        (0, 0)
    );
}

#[test]
fn ended_run_keeps_numbers_of_rejected_and_undelivered_records() {
    let store = Store::in_memory().unwrap();
    let run = started_run(&store);
    insert_page(&store, run, 0, &page_of(5));
    insert_page(&store, run, 1, &page_of(4));
    insert_page(&store, run, 2, &Page::default());
    // Of the second page's chunk of three, the last record has no outcome yet.
    for (after, range, rejected) in [
        (None, 0..3, "0-1,2-3"),
        (Some((0, 0)), 3..5, "4-5"),
        (Some((0, 3)), 0..2, "0-1"),
    ] {
        let chunk = store.next_chunk(run, after).unwrap().unwrap();
        let ack = Ack {
            chunk: &chunk,
            range,
            rejected: rejected.parse().unwrap(),
            rejected_records: &[],
        };
        store.acknowledge(run, &ack, || counts(9)).unwrap();
    }
    assert_eq!(store.numbers(run).unwrap(), None, "the run has not ended");
    store
        .finish_run(run, RunState::Failed, Some("why"), &counts(9), at(1))
        .unwrap();
    let numbers = store.numbers(run).unwrap().unwrap();
    assert_eq!(
        numbers.assigned, 10,
        "five, and the numbers of a second page of five"
    );
    assert_eq!(
        (numbers.rejected.to_string(), numbers.undelivered.to_string()),
        ("0-1,2-3,4-6".to_owned(), "7-9".to_owned())
    );
    assert_eq!(store.runs_without_verdict().unwrap()[0].id, run);
    let verdict = LedgerVerdict::unknown("so");
    store.save_verdict(run, &verdict).unwrap();
    assert_eq!(store.run(run).unwrap().unwrap().verdict, Some(verdict));
    let unknown = store
        .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(0))
        .unwrap();
    store
        .finish_run(unknown, RunState::Cancelled, None, &counts(0), at(1))
        .unwrap();
    assert_eq!(store.numbers(unknown).unwrap(), None, "it has not started");
}

#[test]
fn numbers_are_deleted_with_their_run() {
    let store = Store::in_memory().unwrap();
    let old = started_run(&store);
    store
        .finish_run(old, RunState::Complete, None, &counts(0), at(1))
        .unwrap();
    let new = started_run(&store);
    store
        .finish_run(new, RunState::Complete, None, &counts(0), at(2))
        .unwrap();
    assert_eq!(store.prune_runs(Duration::from_secs(50), 1, at(3)).unwrap(), 1);
    assert_eq!(
        (store.numbers(old).unwrap(), store.numbers(new).unwrap().is_some()),
        (None, true)
    );
    let left = store.read(|connection| {
        Ok(connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get::<_, u32>(0))?)
    });
    assert_eq!(left.unwrap(), 1);
}

#[test]
fn time_of_a_page_is_kept_with_its_batches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Store::open(&path).unwrap();
    let run = started_run(&store);
    let fetched_at = Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
    insert_page(&store, run, 0, &page_of(5).with_fetched_at(fetched_at));
    insert_page(&store, run, 1, &page_of(1));
    drop(store);
    let store = Store::open(&path).unwrap();
    for (after, expected) in [
        (None, Some(fetched_at)),
        (Some((0, 0)), Some(fetched_at)),
        (Some((0, 3)), None),
    ] {
        assert_eq!(
            store.next_chunk(run, after).unwrap().unwrap().fetched_at,
            expected
        );
    }
}

#[test]
fn event_is_pending_after_a_failure_and_after_the_recovery() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Store::open(&path).unwrap();
    for state in [
        RunState::Complete,
        RunState::Failed,
        RunState::Complete,
        RunState::Complete,
        RunState::Rejected,
        RunState::Cancelled,
    ] {
        let run = started_run(&store);
        store
            .finish_run(run, state, Some("why"), &counts(0), at(7))
            .unwrap();
    }
    drop(store);
    let store = Store::open(&path).unwrap();
    let pending = store.pending_events().unwrap();
    let found: Vec<_> = pending
        .iter()
        .map(|pending| (pending.event, pending.run.state))
        .collect();
    assert_eq!(
        found,
        [
            (Event::RunFailed, RunState::Failed),
            (Event::RunRecovered, RunState::Complete)
        ]
    );
    assert_eq!(pending[0].at, at(7));
    store.remove_event(pending[0].run.id).unwrap();
    assert_eq!(store.pending_events().unwrap(), pending[1..]);
    store.drop_events().unwrap();
    assert!(store.pending_events().unwrap().is_empty());
}

/// The tables of version 4 have other names; a run in progress continues.
#[test]
fn run_of_schema_version_4_continues_without_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let (run, ended) = (
        "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071",
        "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6070",
    );
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "{SCHEMA_4} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 4; \
             INSERT INTO runs (id, cause, state, created, started, seed, users, page_size, counts, next_record, batch, \
             max_in_flight, duplicate_window) \
             VALUES ('{run}', 'manual', 'running', 0, 0, 'abc', 5, 5, '{{}}', 5, 3, 1, 100); \
             INSERT INTO runs (id, cause, state, created, started, ended, seed, users, page_size, counts) \
             VALUES ('{ended}', 'backfill', 'failed', 0, 0, 0, 'abc', 5, 5, '{{}}'); \
             INSERT INTO pages VALUES ('{run}', 0, 0, 5, '0-3'); \
             INSERT INTO pieces VALUES ('{run}', 0, 3, x'610a620a'); \
             INSERT INTO refused VALUES ('{run}', 1, 'x', 'email: is blank'); \
             INSERT INTO spent (at, users) VALUES (1000, 5); \
             INSERT INTO marks VALUES ('scheduled_up_to', 7000);"
        ))
        .unwrap();
    drop(connection);
    let store = Store::open(&path).unwrap();
    let (run, ended) = (run.parse().unwrap(), ended.parse().unwrap());
    assert_eq!(store.schedule_cursor().unwrap(), Some(at(7)));
    assert_eq!(
        store.recent_usage(Duration::from_secs(100), at(2)).unwrap(),
        [(Duration::from_secs(1), 5)]
    );
    assert_eq!(store.rejected_records(run, 10).unwrap()[0].record, 1);
    assert_eq!(
        store
            .start_run(run, &delivery(50), at(9))
            .unwrap()
            .delivery
            .unwrap()
            .batch_size,
        3
    );
    let chunk = store.next_chunk(run, None).unwrap().unwrap();
    assert_eq!(
        (chunk.range(), chunk.acknowledged.to_string(), chunk.fetched_at),
        (3..5, "0-3".to_owned(), None)
    );
    let ack = Ack {
        chunk: &chunk,
        range: 3..5,
        rejected: RangeSet::default(),
        rejected_records: &[],
    };
    assert!(store.acknowledge(run, &ack, || counts(5)).unwrap());
    store
        .finish_run(run, RunState::Complete, None, &counts(5), at(10))
        .unwrap();
    assert_eq!(
        store.numbers(run).unwrap(),
        None,
        "which records were rejected is not known"
    );
    let settings = PipelineSettings::default();
    for run in [run, ended] {
        let verdict = store
            .run(run)
            .unwrap()
            .unwrap()
            .with_verdict(&settings)
            .verdict
            .unwrap();
        assert_eq!(
            verdict,
            LedgerVerdict::unknown("the run was started by an earlier version")
        );
    }
    assert!(store.runs_without_verdict().unwrap().is_empty());
    assert_eq!(
        store.runs(&RunFilter::default()).unwrap()[1].trigger,
        Trigger::Backfill
    );
}

/// Stores a run that has started.
fn started_run(store: &Store) -> Uuid {
    let run = store
        .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(0))
        .unwrap();
    store.start_run(run, &delivery(50), at(0)).unwrap();
    run
}

#[test]
fn runs_are_filtered_and_paged_newest_first() {
    let store = Store::in_memory().unwrap();
    let enter = |trigger, state| {
        store
            .insert_run(&spec(trigger), state, Some("so"), at(0))
            .unwrap()
    };
    let first = enter(Trigger::Schedule, RunState::Missed);
    let second = enter(Trigger::Manual, RunState::Queued);
    let third = enter(Trigger::Schedule, RunState::Skipped);
    let ids = |filter: &RunFilter| -> Vec<_> {
        store
            .runs(filter)
            .unwrap()
            .into_iter()
            .map(|run| run.id)
            .collect()
    };
    assert_eq!(ids(&RunFilter::default()), [third, second, first]);
    let trigger = Some(Trigger::Schedule);
    assert_eq!(
        ids(&RunFilter {
            trigger,
            ..RunFilter::default()
        }),
        [third, first]
    );
    let state = Some(RunState::Missed);
    assert_eq!(
        ids(&RunFilter {
            state,
            ..RunFilter::default()
        }),
        [first]
    );
    assert_eq!(
        ids(&RunFilter {
            before: Some(third),
            limit: 1,
            ..RunFilter::default()
        }),
        [second]
    );
}

#[test]
fn pruning_keeps_unfinished_runs() {
    let store = Store::in_memory().unwrap();
    let enter = |state, second| {
        store
            .insert_run(&spec(Trigger::Manual), state, None, at(second))
            .unwrap()
    };
    let queued = enter(RunState::Queued, 0);
    enter(RunState::Missed, 10);
    enter(RunState::Missed, 90);
    let kept = enter(RunState::Missed, 95);
    assert_eq!(store.prune_runs(Duration::from_secs(50), 9, at(100)).unwrap(), 1);
    assert_eq!(store.prune_runs(Duration::from_secs(50), 1, at(100)).unwrap(), 1);
    let left: Vec<_> = store
        .runs(&RunFilter::default())
        .unwrap()
        .into_iter()
        .map(|run| run.id)
        .collect();
    assert_eq!(left, [kept, queued]);
}

#[test]
fn usage_is_kept_for_a_window_and_unserved_users_are_released() {
    let store = Store::in_memory().unwrap();
    let window = Duration::from_secs(100);
    let served = store.reserve_users(5, window, at(1_000)).unwrap();
    let rejected = store.reserve_users(7, window, at(1_010)).unwrap();
    store.reserve_users(9, window, at(1_020)).unwrap();
    store.complete_reservation(served, true, at(1_005)).unwrap();
    store.complete_reservation(rejected, false, at(1_011)).unwrap();
    let second = Duration::from_secs;
    assert_eq!(
        store.recent_usage(window, at(1_050)).unwrap(),
        [(second(45), 5), (second(30), 9)]
    );
    assert_eq!(store.recent_usage(window, at(1_110)).unwrap(), [(second(90), 9)]);
    let set_back = store.recent_usage(window, at(900)).unwrap();
    assert_eq!(
        set_back,
        [(second(0), 5), (second(0), 9)],
        "a backward clock step frees nothing"
    );
}

#[test]
fn state_file_has_one_writer_and_many_readers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::InUse(_))));
    store.set_schedule_cursor(at(7)).unwrap();
    assert_eq!(
        Store::open_shared(&path).unwrap().schedule_cursor().unwrap(),
        Some(at(7))
    );
    drop(store);
    Store::open(&path).unwrap();
}

#[test]
fn retry_begins_where_the_run_failed() {
    let store = Store::in_memory().unwrap();
    let spec = RunSpec {
        users: 25,
        pages: None,
        ..spec(Trigger::Manual)
    };
    let run = store.insert_run(&spec, RunState::Queued, None, at(0)).unwrap();
    store.start_run(run, &delivery(50), at(1)).unwrap();
    for number in 0..3 {
        insert_page(&store, run, number, &page_of(5));
    }
    let mut chunks = Vec::new();
    while let Some(chunk) = store
        .next_chunk(
            run,
            chunks.last().map(|last: &OutboxChunk| (last.page, last.start)),
        )
        .unwrap()
    {
        chunks.push(chunk);
    }
    assert_eq!(chunks.len(), 6, "two of each page");
    // Only the first chunk of the second page is not delivered.
    chunks.remove(2);
    for chunk in &chunks {
        let ack = Ack {
            chunk,
            range: chunk.range(),
            rejected: RangeSet::default(),
            rejected_records: &[],
        };
        store.acknowledge(run, &ack, || counts(15)).unwrap();
    }
    store
        .finish_run(run, RunState::Failed, Some("why"), &counts(15), at(2))
        .unwrap();
    let failed = store.run(run).unwrap().unwrap();
    assert_eq!(failed.delivered_pages, 1);
    assert_eq!(failed.retried().pages, Some("2..5".parse().unwrap()));
    let retry = store
        .insert_run(&failed.retried(), RunState::Queued, None, at(3))
        .unwrap();
    store.start_run(retry, &delivery(50), at(4)).unwrap();
    insert_page(&store, retry, 0, &Page::default());
    store
        .finish_run(retry, RunState::Failed, Some("why"), &counts(0), at(5))
        .unwrap();
    let failed = store.run(retry).unwrap().unwrap();
    assert_eq!(failed.retried().pages, Some("3..5".parse().unwrap()));
}

#[test]
fn pause_is_kept_until_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Store::open(&path).unwrap();
    assert_eq!(store.paused().unwrap(), None);
    store.pause("me", at(5)).unwrap();
    store.pause("another", at(6)).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    let (since, by) = (at(5), "me".to_owned());
    assert_eq!(
        store.paused().unwrap(),
        Some(SchedulePause { since, by }),
        "the first one"
    );
    store.resume().unwrap();
    store.resume().unwrap();
    assert_eq!(store.paused().unwrap(), None);
}

#[test]
fn jitter_salt_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    assert_eq!(
        Store::open(&path).unwrap().jitter_salt(u64::MAX - 1).unwrap(),
        u64::MAX - 1
    );
    assert_eq!(Store::open(&path).unwrap().jitter_salt(7).unwrap(), u64::MAX - 1);
}

#[test]
fn invalid_state_file_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("state.db");
    assert!(matches!(Store::open(&missing), Err(StoreError::Create { .. })));
    assert!(matches!(
        Store::open_shared(&missing),
        Err(StoreError::Open { .. })
    ));
    let text = folder.path().join("text");
    std::fs::write(&text, "not a database, but long enough to be parsed as one").unwrap();
    assert!(matches!(Store::open(&text), Err(StoreError::Open { .. })));
}

#[test]
fn file_of_another_program_or_version_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let newer = format!("{SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 7;");
    let newer_in_wal = format!("PRAGMA journal_mode = wal; {newer}");
    for (name, statements, expected) in [
        ("tables", "CREATE TABLE theirs (a);", "another program"),
        (
            "runs",
            "CREATE TABLE runs (a); CREATE TABLE pages (a);",
            "another program",
        ),
        (
            "version",
            "CREATE TABLE theirs (a); PRAGMA user_version = 3;",
            "another program",
        ),
        ("future", "PRAGMA user_version = 7;", "another program"),
        ("id", "PRAGMA application_id = 7;", "another program"),
        (
            "wal",
            "PRAGMA journal_mode = wal; CREATE TABLE theirs (a);",
            "another program",
        ),
        ("newer", &newer, "has schema version 7"),
        ("newer-wal", &newer_in_wal, "has schema version 7"),
    ] {
        let path = folder.path().join(name);
        let theirs = Connection::open(&path).unwrap();
        theirs.execute_batch(statements).unwrap();
        drop(theirs);
        let before = std::fs::read(&path).unwrap();
        for error in [
            Store::open(&path).map(drop).unwrap_err(),
            Store::open_shared(&path).map(drop).unwrap_err(),
        ] {
            assert!(error.to_string().contains(expected), "{name}: {error}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before, "{name}");
    }
}

#[test]
fn one_file_has_one_writer_by_whatever_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Store::open(&path).unwrap();
    for (name, target) in [("file-link", path.as_path()), ("folder-link", folder.path())] {
        std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
    }
    for other in ["file-link", "folder-link/state.db", "./state.db"] {
        let error = Store::open(&folder.path().join(other)).map(drop).unwrap_err();
        assert!(matches!(error, StoreError::InUse(_)), "{other}: {error}");
    }
    drop(store);
    Store::open(&folder.path().join("file-link")).unwrap();
}

#[test]
fn reader_delays_purge_only_briefly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Store::open(&path).unwrap();
    let run = store
        .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(0))
        .unwrap();
    insert_page(&store, run, 0, &page_of(100));
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM runs;").unwrap();
    store
        .finish_run(run, RunState::Complete, None, &counts(0), at(9))
        .unwrap();
    let started = std::time::Instant::now();
    store.purge_deleted().unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert!(
        on_disk(folder.path(), "1961-08-04"),
        "the reader sees the old state"
    );
    reader.execute_batch("COMMIT").unwrap();
    store.purge_if_pending().unwrap();
    assert!(!on_disk(folder.path(), "1961-08-04"));
}

#[test]
fn content_that_a_killed_process_deleted_is_purged_at_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Store::open(&path).unwrap();
    let run = store
        .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(0))
        .unwrap();
    insert_page(&store, run, 0, &page_of(100));
    store
        .finish_run(run, RunState::Complete, None, &counts(0), at(9))
        .unwrap();
    // As after a kill: the WAL is not merged when the connection is closed.
    let copy = tempfile::tempdir().unwrap();
    for file in ["state.db", "state.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    assert!(on_disk(copy.path(), "1961-08-04"));
    let _store = Store::open(&copy.path().join("state.db")).unwrap();
    assert!(!on_disk(copy.path(), "1961-08-04"));
}

#[test]
fn last_finished_run_survives_pruning() {
    let store = Store::in_memory().unwrap();
    let queued = |trigger| {
        store
            .insert_run(&spec(trigger), RunState::Queued, None, at(0))
            .unwrap()
    };
    assert_eq!(store.last_finished_run().unwrap(), None);
    let (failed, cancelled) = (queued(Trigger::Manual), queued(Trigger::Manual));
    store.start_run(failed, &delivery(50), at(1)).unwrap();
    store
        .finish_run(cancelled, RunState::Cancelled, None, &counts(0), at(9))
        .unwrap();
    store
        .finish_run(failed, RunState::Failed, Some("why"), &counts(0), at(5))
        .unwrap();
    let last = store.last_finished_run().unwrap().unwrap();
    assert_eq!(
        (last.id, last.retry),
        (failed, 3),
        "a cancelled queued run had not started"
    );
    let retried = last.retried();
    assert_eq!(
        (retried.trigger, retried.retry, &retried.seed),
        (Trigger::Retry, 4, &last.seed)
    );
    store.prune_runs(Duration::ZERO, 1, at(100)).unwrap();
    assert_eq!(store.last_finished_run().unwrap().unwrap().id, failed);
}

#[test]
fn backward_clock_step_keeps_the_order_of_runs() {
    let store = Store::in_memory().unwrap();
    let ahead = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 4_000_000_000, 0));
    let run = |second, state| {
        let run = store
            .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(second))
            .unwrap();
        store.start_run(run, &delivery(50), at(second)).unwrap();
        store
            .finish_run(run, state, None, &counts(0), at(second))
            .unwrap();
        run
    };
    let failed = run(4_000_000_000, RunState::Failed);
    let renamed = store.read(|connection| {
        let names = [ahead.to_string(), failed.to_string()];
        Ok(connection.execute("UPDATE runs SET id = ?1 WHERE id = ?2", names)?)
    });
    assert_eq!(renamed.unwrap(), 1);
    assert_eq!(store.last_finished_run().unwrap().unwrap().id, ahead);
    let later = [run(1_000, RunState::Complete), run(900, RunState::Complete)];
    assert_eq!(
        store.last_finished_run().unwrap().unwrap().id,
        later[1],
        "independent of its clock"
    );
    let ids: Vec<_> = store
        .runs(&RunFilter::default())
        .unwrap()
        .into_iter()
        .map(|run| run.id)
        .collect();
    assert_eq!(ids, [later[1], later[0], ahead]);
    assert!(later.iter().all(|id| id.get_version_num() == 7));
}

#[test]
fn cancelled_run_stays_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Store::open(&path).unwrap();
    let run = store
        .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(0))
        .unwrap();
    store.start_run(run, &delivery(50), at(1)).unwrap();
    assert!(store.cancel_run(run, false, "me").unwrap());
    drop(store);
    let store = Store::open(&path).unwrap();
    let unfinished = store.unfinished_runs().unwrap();
    assert_eq!(
        (unfinished[0].state, unfinished[0].drop_pending),
        (RunState::Cancelling, false)
    );
    let resumed = store.start_run(run, &delivery(50), at(2)).unwrap();
    assert_eq!((resumed.state, resumed.resumed), (RunState::Cancelling, 1));
    assert!(store.cancel_run(run, true, "me").unwrap() && store.cancel_run(run, false, "me").unwrap());
    let stored = store.run(run).unwrap().unwrap();
    assert!(stored.drop_pending, "a wish is not taken back");
    assert_eq!(stored.cancelled_by.as_deref(), Some("me"));
    for state in [RunState::Failed, RunState::Complete] {
        assert_eq!(
            store
                .finish_run(run, state, Some("why"), &counts(3), at(3))
                .unwrap(),
            if state == RunState::Failed {
                RunState::Cancelled
            } else {
                state
            },
            "only an unfinished run is cancelled"
        );
    }
    assert!(!store.cancel_run(run, true, "me").unwrap());
}

#[test]
fn schema_version_1_is_upgraded_with_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let second = schema_version_2();
    let old = second.replace(",\n  retry INTEGER NOT NULL DEFAULT 0", "");
    assert_ne!(old, second);
    let connection = Connection::open(&path).unwrap();
    let run = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
    connection
        .execute_batch(&format!(
            "{old} PRAGMA user_version = 1; INSERT INTO runs (id, cause, state, created, seed, users, page_size, counts) \
             VALUES ('{run}', 'manual', 'queued', 0, 'abc', 5, 5, '{{}}');"
        ))
        .unwrap();
    drop(connection);
    let rejected = Store::open_shared(&path).map(drop).unwrap_err().to_string();
    assert!(
        rejected.starts_with("the state file has schema version 1, expected 5"),
        "{rejected}"
    );
    let store = Store::open(&path).unwrap();
    let stored = store
        .start_run(run.parse().unwrap(), &delivery(50), at(1))
        .unwrap();
    assert_eq!((stored.retry, stored.users), (0, 5));
    store
        .insert_run(&spec(Trigger::Retry), RunState::Queued, None, at(2))
        .unwrap();
    drop(store);
    assert_eq!(Store::open(&path).unwrap().unfinished_runs().unwrap()[1].retry, 3);
}

/// Returns schema version 2, which stores a page in one row with the number of acknowledged leading records.
fn schema_version_2() -> String {
    // The columns of a run since version 3.
    let (before, rest) = SCHEMA_4.split_once(",\n  batch INTEGER").unwrap();
    let (_, after) = rest.split_once("\n) STRICT").unwrap();
    let (after, rest) = after.split_once("-- The pause of the schedule").unwrap();
    let (_, last) = rest.split_once("\n\n").unwrap();
    let mut schema = format!("{before}\n) STRICT{after}{last}");
    for (now, then) in [
        (
            "accounted TEXT NOT NULL DEFAULT ''",
            "accounted INTEGER NOT NULL DEFAULT 0",
        ),
        ("CREATE TABLE pieces", "CREATE TABLE bodies"),
        (
            "\n  start INTEGER NOT NULL,          -- index of its first record in the page",
            "",
        ),
        ("(run, page, start)", "(run, page)"),
    ] {
        assert_eq!(schema.matches(now).count(), 1, "{now}");
        schema = schema.replace(now, then);
    }
    schema
}

#[test]
fn run_of_schema_version_2_resumes_after_acknowledged_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let run = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "{} PRAGMA user_version = 2; INSERT INTO runs (id, cause, state, created, seed, users, page_size, counts) \
             VALUES ('{run}', 'manual', 'running', 0, 'abc', 5, 5, '{{}}'); \
             INSERT INTO pages VALUES ('{run}', 0, 0, 3, 2), ('{run}', 1, 3, 2, 0); \
             INSERT INTO bodies VALUES ('{run}', 0, x'610a620a630a'), ('{run}', 1, x'640a650a');",
            schema_version_2()
        ))
        .unwrap();
    drop(connection);
    let store = Store::open(&path).unwrap();
    let run = run.parse().unwrap();
    let page = |after| store.next_chunk(run, after).unwrap().unwrap();
    assert_eq!(
        (page(None).acknowledged.to_string(), page(None).range()),
        ("0-2".to_owned(), 0..3)
    );
    assert_eq!(page(Some((0, 0))).acknowledged.to_string(), "");
    let rest = Ack {
        chunk: &page(None),
        range: 2..3,
        rejected: RangeSet::default(),
        rejected_records: &[],
    };
    assert!(store.acknowledge(run, &rest, || counts(5)).unwrap());
    let resumed = store.start_run(run, &delivery(50), at(9)).unwrap();
    let max_in_flight = 1; // The window before the upgrade is not known.
    assert_eq!(
        resumed.delivery,
        Some(DeliverySpec {
            max_in_flight,
            ..delivery(50)
        })
    );
}

/// Whether the bytes of any file in `folder` contain `text`.
fn on_disk(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        memchr::memmem::find(&bytes, text.as_bytes()).is_some()
    })
}

/// Delivers a run and asserts that its personal data is not in any file.
fn assert_run_leaves_no_personal_data(folder: &Path) {
    let store = Store::open(&folder.join("state.db")).unwrap();
    let run = store
        .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(0))
        .unwrap();
    let pages = 40;
    for number in 0..pages {
        // Chunks that share a database page, and chunks that span several.
        insert_page_in_chunks(
            &store,
            run,
            number,
            &page_of(100),
            if number % 2 == 0 { 3 } else { 90 },
        );
    }
    // Moves the WAL into the database file, so that there is content to remove.
    store.purge_deleted().unwrap();
    assert!(on_disk(folder, "1961-08-04"), "pending records are stored");
    while let Some(chunk) = store.next_chunk(run, None).unwrap() {
        let ack = Ack {
            chunk: &chunk,
            range: chunk.range(),
            rejected: RangeSet::default(),
            rejected_records: &[],
        };
        store.acknowledge(run, &ack, || counts(0)).unwrap();
    }
    store
        .finish_run(run, RunState::Complete, None, &counts(0), at(9))
        .unwrap();
    store.purge_deleted().unwrap();
    for personal in ["Zo\u{eb}", "1961-08-04"] {
        assert!(!on_disk(folder, personal), "{personal}");
    }
    assert!(on_disk(folder, &run.to_string()), "the run is kept");
}

#[test]
fn no_personal_data_remains_on_disk_after_a_run() {
    let folder = tempfile::tempdir().unwrap();
    assert_run_leaves_no_personal_data(folder.path());
    assert_run_leaves_no_personal_data(folder.path());
}

#[test]
fn file_without_incremental_vacuum_is_rewritten_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let older = Connection::open(&path).unwrap();
    older.pragma_update(None, "journal_mode", "wal").unwrap();
    older
        .execute_batch(&format!(
            "{SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; \
             INSERT INTO cursors (name, value) VALUES ('known', 7);"
        ))
        .unwrap();
    drop(older);
    assert_run_leaves_no_personal_data(folder.path());
    let known: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT value FROM cursors WHERE name = 'known'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(known, 7);
}

#[test]
fn state_files_are_readable_by_the_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state.db")).unwrap();
    store.set_schedule_cursor(at(7)).unwrap();
    let modes: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().permissions().mode() & 0o777)
        .collect();
    assert!(
        modes.len() >= 3 && modes.iter().all(|mode| *mode == 0o600),
        "{modes:?}"
    );
}
