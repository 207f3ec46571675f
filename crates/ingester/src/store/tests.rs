use uuid::Uuid;

use super::*;
use crate::delivery::record_batch::tests::page_of;
use crate::run::{Trigger, RunFilter, RunSpec, RunState};
use crate::transform::page::Page;
use crate::run::run_stats::Counts;

fn order(cause: Trigger) -> RunSpec {
    RunSpec {
        cause,
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
fn keep(memory: &Store, run: uuid::Uuid, number: u64, page: &Page) {
    keep_in_pieces(memory, run, number, page, 3);
}

fn keep_in_pieces(memory: &Store, run: uuid::Uuid, number: u64, page: &Page, piece: usize) {
    let fresh: Vec<_> = (0..page.ids().len()).collect();
    let fetched = FetchedPage {
        page: number,
        first: number * 5,
        content: page,
        fresh: &fresh,
        piece,
    };
    memory
        .fetched(run, &fetched, || counts(5 * (number + 1)))
        .unwrap();
}

#[test]
fn a_run_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let memory = Store::open(&path).unwrap();
    let run = memory
        .enter(&order(Trigger::Backfill), RunState::Queued, None, at(5))
        .unwrap();
    assert_eq!(memory.begin(run, 50, at(6)).unwrap().resumed, 0);
    drop(memory);
    let memory = Store::open(&path).unwrap();
    assert_eq!(memory.unfinished().unwrap().len(), 1);
    let entry = memory.begin(run, 70, at(9)).unwrap();
    assert_eq!(
        (entry.resumed, entry.started, entry.state),
        (1, Some(at(6)), RunState::Running)
    );
    assert_eq!(entry.order(), order(Trigger::Backfill));
    assert_eq!(entry.batch, Some(50), "as it was begun");
    assert_eq!(entry.counts.requested, 7);
    memory
        .end(run, RunState::Failed, Some("why"), &counts(3), at(10))
        .unwrap();
    let entry = memory.run(run).unwrap().unwrap();
    assert_eq!(
        (entry.reason.as_deref(), entry.ended, entry.counts),
        (Some("why"), Some(at(10)), counts(3))
    );
    assert!(memory.unfinished().unwrap().is_empty() && memory.begin(run, 50, at(11)).is_err());
}

#[test]
fn readers_are_not_kept_waiting_by_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Store::open(&folder.path().join("state.db")).unwrap();
    let mode = memory.ask(|connection| {
        Ok(connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0))?)
    });
    assert_eq!(mode.unwrap(), "wal");
}

#[test]
fn a_page_waits_until_its_last_record_is_accounted_for() {
    let memory = Store::volatile().unwrap();
    let run = memory
        .enter(&order(Trigger::Manual), RunState::Queued, None, at(0))
        .unwrap();
    let page = page_of(5);
    keep(&memory, run, 0, &page);
    keep(&memory, run, 1, &page_of(2));
    let waiting = |after| memory.waiting(run, after).unwrap().unwrap();
    let (front, back) = (waiting(None), waiting(Some((0, 0))));
    assert_eq!((front.page, front.first, front.places()), (0, 0, 0..3));
    assert_eq!(
        (&front.records, &back.records),
        (&page.records(&[0, 1, 2]), &page.records(&[3, 4]))
    );
    let next = waiting(Some((0, 3)));
    assert_eq!((back.places(), next.page, next.first), (3..5, 1, 5));
    assert!(memory.waiting(run, Some((1, 0))).unwrap().is_none());
    let heard = |piece, places, refused| {
        let heard = Ack {
            piece,
            places,
            refused,
        };
        memory.accounted(run, &heard, || counts(9)).unwrap()
    };
    let refused = RejectedRecord {
        record: 4,
        id: "x".into(),
        reason: "email: is blank".into(),
    };
    assert!(!heard(&back, 3..5, std::slice::from_ref(&refused)));
    assert_eq!(waiting(Some((0, 0))).page, 1, "a piece goes with its last record");
    assert!(!heard(&front, 0..1, &[]));
    assert_eq!(waiting(None).accounted.to_string(), "0-1,3-5");
    assert_eq!(memory.waiting_pages(run).unwrap(), 2);
    assert!(heard(&front, 1..3, &[]));
    assert_eq!((waiting(None).page, memory.waiting_pages(run).unwrap()), (1, 1));
    assert_eq!(memory.refused(run, 10).unwrap(), [refused]);
    let entry = memory.run(run).unwrap().unwrap();
    assert_eq!(
        (entry.pages_fetched, entry.next_record, entry.counts.fetched),
        (2, 7, 9)
    );
    assert_eq!(memory.ids(run).unwrap().len(), 7, "of delivered pages, too");
    memory.end(run, RunState::Stopped, None, &counts(9), at(1)).unwrap();
    assert_eq!(
        (memory.waiting_pages(run).unwrap(), memory.ids(run).unwrap().len()),
        (0, 0)
    );
}

#[test]
fn the_history_is_filtered_and_paged_from_the_latest_on() {
    let memory = Store::volatile().unwrap();
    let enter = |cause, state| memory.enter(&order(cause), state, Some("so"), at(0)).unwrap();
    let first = enter(Trigger::Schedule, RunState::Missed);
    let second = enter(Trigger::Manual, RunState::Queued);
    let third = enter(Trigger::Schedule, RunState::Skipped);
    let ids = |filter: &RunFilter| -> Vec<_> {
        memory
            .runs(filter)
            .unwrap()
            .into_iter()
            .map(|run| run.id)
            .collect()
    };
    assert_eq!(ids(&RunFilter::default()), [third, second, first]);
    let cause = Some(Trigger::Schedule);
    assert_eq!(
        ids(&RunFilter {
            cause,
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
    let memory = Store::volatile().unwrap();
    let enter = |state, second| {
        memory
            .enter(&order(Trigger::Manual), state, None, at(second))
            .unwrap()
    };
    let queued = enter(RunState::Queued, 0);
    enter(RunState::Missed, 10);
    enter(RunState::Missed, 90);
    let kept = enter(RunState::Missed, 95);
    assert_eq!(memory.prune(Duration::from_secs(50), 9, at(100)).unwrap(), 1);
    assert_eq!(memory.prune(Duration::from_secs(50), 1, at(100)).unwrap(), 1);
    let left: Vec<_> = memory
        .runs(&RunFilter::default())
        .unwrap()
        .into_iter()
        .map(|run| run.id)
        .collect();
    assert_eq!(left, [kept, queued]);
}

#[test]
fn what_was_spent_is_remembered_for_a_window_and_a_refusal_is_given_back() {
    let memory = Store::volatile().unwrap();
    let window = Duration::from_secs(100);
    let served = memory.spend(5, window, at(1_000)).unwrap();
    let refused = memory.spend(7, window, at(1_010)).unwrap();
    memory.spend(9, window, at(1_020)).unwrap();
    memory.settle(served, true, at(1_005)).unwrap();
    memory.settle(refused, false, at(1_011)).unwrap();
    let second = Duration::from_secs;
    assert_eq!(
        memory.spent(window, at(1_050)).unwrap(),
        [(second(45), 5), (second(30), 9)]
    );
    assert_eq!(memory.spent(window, at(1_110)).unwrap(), [(second(90), 9)]);
    let set_back = memory.spent(window, at(900)).unwrap();
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
    let memory = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::InUse(_))));
    memory.schedule_up_to(at(7)).unwrap();
    assert_eq!(
        Store::read(&path).unwrap().scheduled_up_to().unwrap(),
        Some(at(7))
    );
    drop(memory);
    Store::open(&path).unwrap();
}

#[test]
fn a_state_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere").join("state.db");
    assert!(matches!(Store::open(&nowhere), Err(StoreError::Lock { .. })));
    assert!(matches!(Store::read(&nowhere), Err(StoreError::Open { .. })));
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
    let memory = Store::volatile().unwrap();
    let queued = |cause| memory.enter(&order(cause), RunState::Queued, None, at(0)).unwrap();
    assert_eq!(memory.last_ended().unwrap(), None);
    let (failed, withdrawn) = (queued(Trigger::Manual), queued(Trigger::Manual));
    memory.begin(failed, 50, at(1)).unwrap();
    memory
        .end(withdrawn, RunState::Stopped, None, &counts(0), at(9))
        .unwrap();
    memory
        .end(failed, RunState::Failed, Some("why"), &counts(0), at(5))
        .unwrap();
    let last = memory.last_ended().unwrap().unwrap();
    assert_eq!(
        (last.id, last.retry),
        (failed, 3),
        "a withdrawn run had not begun"
    );
    let again = last.order().again();
    assert_eq!(
        (again.cause, again.retry, &again.seed),
        (Trigger::Retry, 4, &last.seed)
    );
    memory.prune(Duration::ZERO, 1, at(100)).unwrap();
    assert_eq!(memory.last_ended().unwrap().unwrap().id, failed);
}

#[test]
fn a_clock_that_was_set_back_changes_the_order_of_no_runs() {
    let memory = Store::volatile().unwrap();
    let ahead = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 4_000_000_000, 0));
    let run = |second, state| {
        let run = memory
            .enter(&order(Trigger::Manual), RunState::Queued, None, at(second))
            .unwrap();
        memory.begin(run, 50, at(second)).unwrap();
        memory.end(run, state, None, &counts(0), at(second)).unwrap();
        run
    };
    let failed = run(4_000_000_000, RunState::Failed);
    let renamed = memory.ask(|connection| {
        let names = [ahead.to_string(), failed.to_string()];
        Ok(connection.execute("UPDATE runs SET id = ?1 WHERE id = ?2", names)?)
    });
    assert_eq!(renamed.unwrap(), 1);
    assert_eq!(memory.last_ended().unwrap().unwrap().id, ahead);
    let later = [run(1_000, RunState::Complete), run(900, RunState::Complete)];
    assert_eq!(
        memory.last_ended().unwrap().unwrap().id,
        later[1],
        "whatever its clock said"
    );
    let ids: Vec<_> = memory
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
            "{old} PRAGMA user_version = 1; INSERT INTO runs (id, cause, state, created, seed, users, page_size, counts) \
             VALUES ('{run}', 'manual', 'queued', 0, 'abc', 5, 5, '{{}}');"
        ))
        .unwrap();
    drop(connection);
    let refused = Store::read(&path).map(drop).unwrap_err().to_string();
    assert!(
        refused.starts_with("the state is of version 1, that of this ingester is 3"),
        "{refused}"
    );
    let memory = Store::open(&path).unwrap();
    let entry = memory.begin(run.parse().unwrap(), 50, at(1)).unwrap();
    assert_eq!((entry.retry, entry.users), (0, 5));
    memory
        .enter(&order(Trigger::Retry), RunState::Queued, None, at(2))
        .unwrap();
    drop(memory);
    assert_eq!(Store::open(&path).unwrap().unfinished().unwrap()[1].retry, 3);
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
        ("CREATE TABLE pieces", "CREATE TABLE bodies"),
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
            "{} PRAGMA user_version = 2; INSERT INTO runs (id, cause, state, created, seed, users, page_size, counts) \
             VALUES ('{run}', 'manual', 'running', 0, 'abc', 5, 5, '{{}}'); \
             INSERT INTO pages VALUES ('{run}', 0, 0, 3, 2), ('{run}', 1, 3, 2, 0); \
             INSERT INTO bodies VALUES ('{run}', 0, x'610a620a630a'), ('{run}', 1, x'640a650a');",
            second_schema()
        ))
        .unwrap();
    drop(connection);
    let memory = Store::open(&path).unwrap();
    let run = run.parse().unwrap();
    let page = |after| memory.waiting(run, after).unwrap().unwrap();
    assert_eq!(
        (page(None).accounted.to_string(), page(None).places()),
        ("0-2".to_owned(), 0..3)
    );
    assert_eq!(page(Some((0, 0))).accounted.to_string(), "");
    let rest = Ack {
        piece: &page(None),
        places: 2..3,
        refused: &[],
    };
    assert!(memory.accounted(run, &rest, || counts(5)).unwrap());
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
    let memory = Store::open(&folder.join("state.db")).unwrap();
    let run = memory
        .enter(&order(Trigger::Manual), RunState::Queued, None, at(0))
        .unwrap();
    let pages = 40;
    for number in 0..pages {
        // In one page of the file with others, and on several by itself.
        keep_in_pieces(
            &memory,
            run,
            number,
            &page_of(100),
            if number % 2 == 0 { 3 } else { 90 },
        );
    }
    // Into the file itself, so that there is something to be taken out.
    memory.scrub().unwrap();
    assert!(on_disk(folder, "1961-08-04"), "what waits is kept");
    while let Some(piece) = memory.waiting(run, None).unwrap() {
        let heard = Ack {
            piece: &piece,
            places: piece.places(),
            refused: &[],
        };
        memory.accounted(run, &heard, || counts(0)).unwrap();
    }
    memory.end(run, RunState::Complete, None, &counts(0), at(9)).unwrap();
    memory.scrub().unwrap();
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
    let memory = Store::open(&folder.path().join("state.db")).unwrap();
    memory.schedule_up_to(at(7)).unwrap();
    let modes: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().permissions().mode() & 0o777)
        .collect();
    assert!(
        modes.len() >= 3 && modes.iter().all(|mode| *mode == 0o600),
        "{modes:?}"
    );
}
