//! Deletion of personal data from the files.

use super::*;
use crate::delivery::record_batch::tests::page_of;

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
    let run = queued_run(&store);
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
        accept(&store, run, &chunk, chunk.range());
    }
    finish(&store, run, RunState::Complete, 9);
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
    let (folder, path) = new_state_file();
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
fn reader_delays_purge_only_briefly() {
    let (folder, path) = new_state_file();
    let store = Store::open(&path).unwrap();
    let run = queued_run(&store);
    insert_page(&store, run, 0, &page_of(100));
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM runs;").unwrap();
    finish(&store, run, RunState::Complete, 9);
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
    let (folder, path) = new_state_file();
    let store = Store::open(&path).unwrap();
    let run = queued_run(&store);
    insert_page(&store, run, 0, &page_of(100));
    finish(&store, run, RunState::Complete, 9);
    // As after a kill: the WAL is not merged when the connection is closed.
    let copy = tempfile::tempdir().unwrap();
    for file in ["state.db", "state.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    assert!(on_disk(copy.path(), "1961-08-04"));
    let _store = Store::open(&copy.path().join("state.db")).unwrap();
    assert!(!on_disk(copy.path(), "1961-08-04"));
}
