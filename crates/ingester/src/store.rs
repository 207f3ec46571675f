//! What outlives the process, in one SQLite file: the history, the run under way with the pages that wait to be
//! delivered, the spent budget, the schedule's place. Without a file it lives in memory and ends with the process.
//! It decides nothing. What is delivered is overwritten when it is deleted, and the file is readable by its owner alone:
//! the records are people's data. A call takes as long as SQLite's own write, which waits for no disk: the file survives the
//! process, and after a power cut it is what it was some moments before.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use thiserror::Error;

pub mod cursors;
pub mod outbox;
pub mod runs;

const SCHEMA: &str = include_str!("store/schema.sql");
const VERSION: i64 = 3;
/// What makes a state of version 1 one of version 2, and so on.
const UPGRADES: [&str; 2] = [
    "ALTER TABLE runs ADD COLUMN retry INTEGER NOT NULL DEFAULT 0;",
    "ALTER TABLE runs ADD COLUMN batch INTEGER; \
     ALTER TABLE pages RENAME COLUMN accounted TO first_ones; \
     ALTER TABLE pages ADD COLUMN accounted TEXT NOT NULL DEFAULT ''; \
     UPDATE pages SET accounted = '0-' || first_ones WHERE first_ones > 0; \
     ALTER TABLE pages DROP COLUMN first_ones; \
     CREATE TABLE pieces (run TEXT NOT NULL, page INTEGER NOT NULL, start INTEGER NOT NULL, lines BLOB NOT NULL, \
     PRIMARY KEY (run, page, start)) STRICT; \
     INSERT INTO pieces SELECT run, page, 0, lines FROM bodies; \
     DROP TABLE bodies;",
];
/// Another process reads the history meanwhile, which takes moments.
const BUSY: Duration = Duration::from_secs(5);

/// The memory can't be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Not there, no database, or not ours to write.
    #[error("open the state in {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        #[source]
        source: rusqlite::Error,
    },
    /// The file can't be made, or not be written to.
    #[error("make the state in {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file beside it that says who uses it.
    #[error("lock the state in {}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Another ingester uses it.
    #[error("the state in {} is in use by another ingester", .0.display())]
    InUse(PathBuf),
    /// A newer ingester wrote it, or an older one did and nobody has opened it to write since.
    #[error(
        "the state is of version {0}, that of this ingester is {VERSION}; it brings up older ones when it runs"
    )]
    Version(i64),
    /// A read or a write failed: a full disk, a damaged file.
    #[error("use the state")]
    Sqlite(#[from] rusqlite::Error),
    /// A value that we did not write.
    #[error("the state holds a {0} that is none")]
    Corrupt(&'static str),
}

/// The state of an ingester. Clones are the same state.
#[derive(Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    /// Held as long as anybody may write.
    _lock: Option<Arc<File>>,
    persistent: bool,
}

impl Store {
    /// Opens or creates the state in `path` and keeps every other ingester from it.
    ///
    /// # Errors
    /// Each [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = lock(&lock_path(path))?;
        // Made before SQLite would make it for everybody to read; it gives the files beside it the same mode.
        let made = open_private(path).map_err(|source| StoreError::Create {
            path: path.to_owned(),
            source,
        });
        drop(made?);
        let opened = Connection::open(path);
        let opening = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let store = Self::from_connection(opened.map_err(opening)?, Some(Arc::new(lock)), true);
        store.map_err(|error| match error {
            StoreError::Sqlite(source) => opening(source),
            other => other,
        })
    }

    /// Opens the state in `path` to read it, whoever uses it.
    ///
    /// # Errors
    /// Each [`StoreError`] but [`StoreError::InUse`].
    pub fn open_shared(path: &Path) -> Result<Self, StoreError> {
        let opening = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        // Not read-only: where the last writer was killed, its log has to be played back.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(opening)?;
        connection.busy_timeout(BUSY).map_err(opening)?;
        let known: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(opening)?;
        if known != VERSION {
            return Err(StoreError::Version(known));
        }
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            _lock: None,
            persistent: true,
        })
    }

    /// A state that ends with the process.
    ///
    /// # Errors
    /// When SQLite has no room.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::from_connection(Connection::open_in_memory()?, None, false)
    }

    /// Whether the next process will know what this one knew.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    fn from_connection(
        connection: Connection,
        lock: Option<Arc<File>>,
        persistent: bool,
    ) -> Result<Self, StoreError> {
        connection.busy_timeout(BUSY)?;
        let known: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if known == 0 {
            // A batch of records is hundreds of KiB, and each page of it a write.
            connection.pragma_update(None, "page_size", 16 << 10)?;
        }
        enable_incremental_vacuum(&connection, known)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // Enough for a killed process. After a power cut a page may be fetched or posted again, which is harmless.
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        // In KiB. What is read was written just before and is read once; more would only be held.
        connection.pragma_update(None, "cache_size", -512)?;
        // What is deleted is people's data. Within a page that is written anyway it is overwritten; whole pages leave the
        // file at the end of a run (see `scrub`), and to write zeros there first would cost as much as the delivery.
        connection.pragma_update(None, "secure_delete", "fast")?;
        let changes = match usize::try_from(known) {
            Ok(0) => SCHEMA.to_owned(),
            Ok(known) if known <= UPGRADES.len() + 1 => UPGRADES[known - 1..].concat(),
            _ => return Err(StoreError::Version(known)),
        };
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {changes} PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            _lock: lock,
            persistent,
        })
    }

    /// Everything that `work` does happens, or nothing.
    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Leaves nothing behind of what was deleted: free pages of the file and the log still hold it as it was. Somebody who
    /// reads meanwhile keeps it from that; then the next end of a run does it.
    ///
    /// # Errors
    /// [`StoreError::Use`].
    pub fn purge_deleted(&self) -> Result<(), StoreError> {
        self.read(|connection| {
            let mut free = connection.prepare_cached("PRAGMA incremental_vacuum")?;
            let mut pages = free.query([])?;
            while pages.next()?.is_some() {}
            drop(pages);
            let mut statement = connection.prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")?;
            Ok(statement.query_row([], |_| Ok(()))?)
        })
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        work(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Lets free pages leave the file when they are told to. A file with tables, of an ingester that did not do so yet, is
/// written anew for that, once.
fn enable_incremental_vacuum(connection: &Connection, known: i64) -> Result<(), StoreError> {
    const INCREMENTAL: i64 = 2;
    let how: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
    if how != INCREMENTAL {
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        if known > 0 {
            connection.execute_batch("VACUUM")?;
        }
    }
    Ok(())
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let locking = |source| StoreError::Lock {
        path: path.to_owned(),
        source,
    };
    let file = open_private(path).map_err(locking)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(locking(source)),
    }
}

/// A file to write to; where it is made here, nobody else may read it.
fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

fn to_db(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_db(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt("number"))
}

fn timestamp(milliseconds: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(milliseconds).map_err(|_| StoreError::Corrupt("time"))
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
