use uuid::Uuid;

use super::*;
use crate::delivery::record_batch::tests::page_of;
use crate::run::run_stats::Counts;
use crate::run::{RunFilter, RunSpec, RunState, Trigger};
use crate::store::outbox::{Ack, FetchedPage, RejectedRecord};
use crate::transform::page::Page;

fn spec(trigger: Trigger) -> RunSpec {
    RunSpec {
        trigger,
        scheduled: None,
        seed: "abc".parse().unwrap(),
        users: 12,
        page_size: 5,
        pages: Some("2..3".parse().unwrap()),
        retry: 3,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn counts(fetched: u64) -> Counts {
    Counts {
        requested: 7,
        fetched,
        ..Counts::default()
    }
}

/// Keeps a page in pieces of three records.
fn keep(store: &Store, run: uuid::Uuid, number: u64, page: &Page) {
    keep_in_pieces(store, run, number, page, 3);
}

fn keep_in_pieces(store: &Store, run: uuid::Uuid, number: u64, page: &Page, chunk: usize) {
    let new_records: Vec<_> = (0..page.ids().len()).collect();
    let fetched = FetchedPage {
        page: number,
        first: number * 5,
        content: page,
        new_records: &new_records,
        chunk,
    };
    store
        .insert_page(run, &fetched, || counts(5 * (number + 1)))
        .unwrap();
}

#[test]
fn a_run_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Store::open(&path).unwrap();
    let run = store
        .insert_run(&spec(Trigger::Backfill), RunState::Queued, None, at(5))
        .unwrap();
    assert_eq!(store.start_run(run, 50, at(6)).unwrap().resumed, 0);
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.unfinished_runs().unwrap().len(), 1);
    let entry = store.start_run(run, 70, at(9)).unwrap();
    assert_eq!(
        (entry.resumed, entry.started, entry.state),
        (1, Some(at(6)), RunState::Running)
    );
    assert_eq!(entry.spec(), spec(Trigger::Backfill));
    assert_eq!(entry.batch, Some(50), "as it was begun");
    assert_eq!(entry.counts.requested, 7);
    store
        .finish_run(run, RunState::Failed, Some("why"), &counts(3), at(10))
        .unwrap();
    let entry = store.run(run).unwrap().unwrap();
    assert_eq!(
        (entry.reason.as_deref(), entry.ended, entry.counts),
        (Some("why"), Some(at(10)), counts(3))
    );
    assert!(store.unfinished_runs().unwrap().is_empty() && store.start_run(run, 50, at(11)).is_err());
}

#[test]
fn readers_are_not_kept_waiting_by_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state.db")).unwrap();
    let mode = store.read(|connection| {
        Ok(connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0))?)
    });
    assert_eq!(mode.unwrap(), "wal");
}

#[test]
fn a_page_waits_until_its_last_record_is_accounted_for() {
    let store = Store::in_memory().unwrap();
    let run = store
        .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(0))
        .unwrap();
    let page = page_of(5);
    keep(&store, run, 0, &page);
    keep(&store, run, 1, &page_of(2));
    let waiting = |after| store.next_chunk(run, after).unwrap().unwrap();
    let (front, back) = (waiting(None), waiting(Some((0, 0))));
    assert_eq!((front.page, front.first, front.range()), (0, 0, 0..3));
    assert_eq!(
        (&front.records, &back.records),
        (&page.records(&[0, 1, 2]), &page.records(&[3, 4]))
    );
    let next = waiting(Some((0, 3)));
    assert_eq!((back.range(), next.page, next.first), (3..5, 1, 5));
    assert!(store.next_chunk(run, Some((1, 0))).unwrap().is_none());
    let ack = |chunk, range, refused| {
        let ack = Ack {
            chunk,
            range,
            refused,
        };
        store.acknowledge(run, &ack, || counts(9)).unwrap()
    };
    let refused = RejectedRecord {
        record: 4,
        id: "x".into(),
        reason: "email: is blank".into(),
    };
    assert!(!ack(&back, 3..5, std::slice::from_ref(&refused)));
    assert_eq!(waiting(Some((0, 0))).page, 1, "a chunk goes with its last record");
    assert!(!ack(&front, 0..1, &[]));
    assert_eq!(waiting(None).accounted.to_string(), "0-1,3-5");
    assert_eq!(store.pending_pages(run).unwrap(), 2);
    assert!(ack(&front, 1..3, &[]));
    assert_eq!((waiting(None).page, store.pending_pages(run).unwrap()), (1, 1));
    assert_eq!(store.rejected_records(run, 10).unwrap(), [refused]);
    let entry = store.run(run).unwrap().unwrap();
    assert_eq!(
        (entry.pages_fetched, entry.next_record, entry.counts.fetched),
        (2, 7, 9)
    );
    assert_eq!(store.user_ids(run).unwrap().len(), 7, "of delivered pages, too");
    store
        .finish_run(run, RunState::Stopped, None, &counts(9), at(1))
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
fn the_history_is_filtered_and_paged_from_the_latest_on() {
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
fn pruning_goes_by_age_and_number_and_spares_what_has_not_ended() {
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
fn what_was_spent_is_remembered_for_a_window_and_a_refusal_is_given_back() {
    let store = Store::in_memory().unwrap();
    let window = Duration::from_secs(100);
    let served = store.reserve_users(5, window, at(1_000)).unwrap();
    let refused = store.reserve_users(7, window, at(1_010)).unwrap();
    store.reserve_users(9, window, at(1_020)).unwrap();
    store.complete_reservation(served, true, at(1_005)).unwrap();
    store.complete_reservation(refused, false, at(1_011)).unwrap();
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
        "a clock set back frees nothing"
    );
}

#[test]
fn one_ingester_writes_and_anybody_reads() {
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
fn a_state_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere").join("state.db");
    assert!(matches!(Store::open(&nowhere), Err(StoreError::Lock { .. })));
    assert!(matches!(
        Store::open_shared(&nowhere),
        Err(StoreError::Open { .. })
    ));
    let text = folder.path().join("text");
    std::fs::write(&text, "not a database, and long enough to be looked at as one").unwrap();
    assert!(matches!(Store::open(&text), Err(StoreError::Open { .. })));
    let newer = folder.path().join("newer");
    let connection = Connection::open(&newer).unwrap();
    connection.pragma_update(None, "user_version", 7).unwrap();
    drop(connection);
    assert!(matches!(Store::open(&newer), Err(StoreError::Version(7))));
}

#[test]
fn the_run_that_ended_last_is_found_and_outlives_the_pruning() {
    let store = Store::in_memory().unwrap();
    let queued = |trigger| {
        store
            .insert_run(&spec(trigger), RunState::Queued, None, at(0))
            .unwrap()
    };
    assert_eq!(store.last_finished_run().unwrap(), None);
    let (failed, withdrawn) = (queued(Trigger::Manual), queued(Trigger::Manual));
    store.start_run(failed, 50, at(1)).unwrap();
    store
        .finish_run(withdrawn, RunState::Stopped, None, &counts(0), at(9))
        .unwrap();
    store
        .finish_run(failed, RunState::Failed, Some("why"), &counts(0), at(5))
        .unwrap();
    let last = store.last_finished_run().unwrap().unwrap();
    assert_eq!(
        (last.id, last.retry),
        (failed, 3),
        "a withdrawn run had not begun"
    );
    let again = last.spec().retried();
    assert_eq!(
        (again.trigger, again.retry, &again.seed),
        (Trigger::Retry, 4, &last.seed)
    );
    store.prune_runs(Duration::ZERO, 1, at(100)).unwrap();
    assert_eq!(store.last_finished_run().unwrap().unwrap().id, failed);
}

#[test]
fn a_clock_that_was_set_back_changes_the_order_of_no_runs() {
    let store = Store::in_memory().unwrap();
    let ahead = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 4_000_000_000, 0));
    let run = |second, state| {
        let run = store
            .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(second))
            .unwrap();
        store.start_run(run, 50, at(second)).unwrap();
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
        "whatever its clock said"
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
fn a_state_of_the_version_before_is_brought_up_with_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let second = second_schema();
    let old = second.replace(",\n  retry INTEGER NOT NULL DEFAULT 0", "");
    assert_ne!(old, second);
    let connection = Connection::open(&path).unwrap();
    let run = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
    connection
        .execute_batch(&format!(
            "{old} PRAGMA user_version = 1; INSERT INTO runs (id, trigger, state, created, seed, users, page_size, counts) \
             VALUES ('{run}', 'manual', 'queued', 0, 'abc', 5, 5, '{{}}');"
        ))
        .unwrap();
    drop(connection);
    let refused = Store::open_shared(&path).map(drop).unwrap_err().to_string();
    assert!(
        refused.starts_with("the state is of version 1, that of this ingester is 3"),
        "{refused}"
    );
    let store = Store::open(&path).unwrap();
    let entry = store.start_run(run.parse().unwrap(), 50, at(1)).unwrap();
    assert_eq!((entry.retry, entry.users), (0, 5));
    store
        .insert_run(&spec(Trigger::Retry), RunState::Queued, None, at(2))
        .unwrap();
    drop(store);
    assert_eq!(Store::open(&path).unwrap().unfinished_runs().unwrap()[1].retry, 3);
}

/// The schema of version 2, which kept a page in one piece and knew how many of its first records were accounted for.
fn second_schema() -> String {
    let mut schema = SCHEMA.to_owned();
    for (now, then) in [
        (
            ",\n  batch INTEGER                    -- records per request, from the run's beginning on",
            "",
        ),
        (
            "accounted TEXT NOT NULL DEFAULT ''",
            "accounted INTEGER NOT NULL DEFAULT 0",
        ),
        ("CREATE TABLE chunks", "CREATE TABLE bodies"),
        (
            "\n  start INTEGER NOT NULL,          -- the place of its first record in the page",
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
fn a_run_that_version_2_was_killed_in_goes_on_behind_the_records_that_it_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let run = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "{} PRAGMA user_version = 2; INSERT INTO runs (id, trigger, state, created, seed, users, page_size, counts) \
             VALUES ('{run}', 'manual', 'running', 0, 'abc', 5, 5, '{{}}'); \
             INSERT INTO pages VALUES ('{run}', 0, 0, 3, 2), ('{run}', 1, 3, 2, 0); \
             INSERT INTO bodies VALUES ('{run}', 0, x'610a620a630a'), ('{run}', 1, x'640a650a');",
            second_schema()
        ))
        .unwrap();
    drop(connection);
    let store = Store::open(&path).unwrap();
    let run = run.parse().unwrap();
    let page = |after| store.next_chunk(run, after).unwrap().unwrap();
    assert_eq!(
        (page(None).accounted.to_string(), page(None).range()),
        ("0-2".to_owned(), 0..3)
    );
    assert_eq!(page(Some((0, 0))).accounted.to_string(), "");
    let rest = Ack {
        chunk: &page(None),
        range: 2..3,
        refused: &[],
    };
    assert!(store.acknowledge(run, &rest, || counts(5)).unwrap());
}

/// Whether any of the state's files, byte by byte, holds `text`.
fn on_disk(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        memchr::memmem::find(&bytes, text.as_bytes()).is_some()
    })
}

/// A run that ends with all its people delivered: none of them is left in the state's files.
fn no_trace_of_a_run(folder: &Path) {
    let store = Store::open(&folder.join("state.db")).unwrap();
    let run = store
        .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(0))
        .unwrap();
    let pages = 40;
    for number in 0..pages {
        // In one page of the file with others, and on several by itself.
        keep_in_pieces(
            &store,
            run,
            number,
            &page_of(100),
            if number % 2 == 0 { 3 } else { 90 },
        );
    }
    // Into the file itself, so that there is something to be taken out.
    store.purge_deleted().unwrap();
    assert!(on_disk(folder, "1961-08-04"), "what waits is kept");
    while let Some(chunk) = store.next_chunk(run, None).unwrap() {
        let ack = Ack {
            chunk: &chunk,
            range: chunk.range(),
            refused: &[],
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
    assert!(on_disk(folder, &run.to_string()), "the history is kept");
}

#[test]
fn of_delivered_people_nothing_is_left_on_disk_when_their_run_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    no_trace_of_a_run(folder.path());
    no_trace_of_a_run(folder.path());
}

#[test]
fn nor_in_a_file_that_kept_its_free_pages_until_now_and_what_it_knew_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let older = Connection::open(&path).unwrap();
    older.pragma_update(None, "journal_mode", "wal").unwrap();
    older
        .execute_batch(&format!(
            "{SCHEMA} PRAGMA user_version = {VERSION}; INSERT INTO marks (name, at) VALUES ('known', 7);"
        ))
        .unwrap();
    drop(older);
    no_trace_of_a_run(folder.path());
    let known: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT at FROM marks WHERE name = 'known'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(known, 7);
}

#[test]
fn nobody_else_may_read_the_state() {
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
