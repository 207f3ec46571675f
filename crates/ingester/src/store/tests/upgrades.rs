//! Files of earlier schema versions.

use super::*;
use crate::config::PipelineSettings;
use crate::ledger::verdict::LedgerVerdict;

/// Schema version 4, from which the earlier ones are derived.
const SCHEMA_4: &str = include_str!("schema_v4.sql");

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
fn schema_version_1_is_upgraded_with_its_runs() {
    let (_folder, path) = new_state_file();
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
    let path_and_version = format!("{} has schema version 1, expected 5", path.display());
    assert!(
        rejected.starts_with(&format!("the state file {path_and_version}")),
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

#[test]
fn run_of_schema_version_2_resumes_after_acknowledged_records() {
    let (_folder, path) = new_state_file();
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
    assert!(accept(&store, run, &page(None), 2..3));
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

/// The tables of version 4 have other names; a run in progress continues.
#[test]
fn run_of_schema_version_4_continues_without_numbers() {
    let (_folder, path) = new_state_file();
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
    assert!(accept(&store, run, &chunk, 3..5));
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
