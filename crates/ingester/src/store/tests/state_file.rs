//! The state file: lock, mode, owner, and files that are refused.

use super::*;

#[test]
fn writer_does_not_block_readers() {
    let (_folder, path) = new_state_file();
    let store = Store::open(&path).unwrap();
    let mode = store.read(|connection| {
        Ok(connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0))?)
    });
    assert_eq!(mode.unwrap(), "wal");
}

#[test]
fn state_file_has_one_writer_and_many_readers() {
    let (_folder, path) = new_state_file();
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
fn one_file_has_one_writer_by_whatever_path() {
    let (folder, path) = new_state_file();
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
fn state_files_are_readable_by_the_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, path) = new_state_file();
    let store = Store::open(&path).unwrap();
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
    let path = folder.path().canonicalize().unwrap().join("state.db");
    let store = Store::open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("DROP TABLE pause").unwrap();
    for (error, cause) in [
        (store.paused().unwrap_err(), "no such table: pause"),
        (store.corrupt("time"), "the file is corrupt: invalid time"),
    ] {
        let expected = format!("failed to access the state file {}: {cause}", path.display());
        let message = service::process::chain(&error);
        assert!(message.starts_with(&expected), "{message}");
    }
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
        let path = folder.path().canonicalize().unwrap().join(name);
        let theirs = Connection::open(&path).unwrap();
        theirs.execute_batch(statements).unwrap();
        drop(theirs);
        let before = std::fs::read(&path).unwrap();
        for error in [
            Store::open(&path).map(drop).unwrap_err(),
            Store::open_shared(&path).map(drop).unwrap_err(),
        ] {
            assert!(error.to_string().contains(expected), "{name}: {error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before, "{name}");
    }
}
