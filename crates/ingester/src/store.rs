//! Persistent state in one SQLite file: runs, the outbox of the active run, rate limit usage and the schedule cursor.
//! Without a file, the state is in memory and ends with the process. Makes no decisions.
//!
//! Records are personal data: deleted ones are overwritten, and only the owner may read the file. Commits do not wait for
//! the disk. The file survives a killed process. After a power failure, the latest commits may be missing.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use thiserror::Error;

use crate::config::StateSettings;

pub mod cursors;
pub mod events;
mod location;
pub mod numbers;
pub mod outbox;
mod run_rows;
pub mod runs;
pub mod verdicts;

const SCHEMA: &str = include_str!("store/schema.sql");
/// Distinguishes our files from those of other programs that use SQLite: "Aflu".
const APPLICATION_ID: i64 = 0x4166_6c75;
const VERSION: i64 = 5;
/// Statements that upgrade the schema from version 1 to 2, and so on.
const UPGRADES: [&str; 4] = [
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
    "ALTER TABLE runs ADD COLUMN drop_pending INTEGER NOT NULL DEFAULT 0; \
     UPDATE runs SET state = 'cancelled' WHERE state = 'stopped'; \
     ALTER TABLE runs ADD COLUMN requested_by TEXT; \
     ALTER TABLE runs ADD COLUMN cancelled_by TEXT; \
     ALTER TABLE runs ADD COLUMN delivered_pages INTEGER NOT NULL DEFAULT 0; \
     CREATE TABLE pause (only INTEGER PRIMARY KEY CHECK (only = 1), at INTEGER NOT NULL, caller TEXT NOT NULL) STRICT; \
     ALTER TABLE runs ADD COLUMN max_in_flight INTEGER; \
     ALTER TABLE runs ADD COLUMN duplicate_window INTEGER; \
     UPDATE runs SET max_in_flight = 1 WHERE state = 'running';", // its window was not stored; one batch is safe
    "ALTER TABLE runs RENAME COLUMN cause TO trigger; \
     ALTER TABLE runs RENAME COLUMN batch TO batch_size; \
     ALTER TABLE runs ADD COLUMN verdict TEXT; \
     ALTER TABLE runs ADD COLUMN event TEXT; \
     ALTER TABLE pages RENAME COLUMN accounted TO acknowledged; \
     ALTER TABLE pages ADD COLUMN rejected TEXT; \
     ALTER TABLE pages ADD COLUMN fetched_at_us INTEGER; \
     ALTER TABLE pieces RENAME TO batches; \
     ALTER TABLE refused RENAME TO rejected_records; \
     ALTER TABLE spent RENAME TO rate_limit_usage; \
     ALTER TABLE marks RENAME TO cursors; \
     ALTER TABLE cursors RENAME COLUMN at TO value; \
     CREATE TABLE numbers (run TEXT PRIMARY KEY, rejected TEXT NOT NULL, undelivered TEXT NOT NULL) STRICT, WITHOUT ROWID;",
];
/// Maximum wait for another process that writes the file.
const BUSY: Duration = Duration::from_secs(5);
/// Maximum wait for readers when deleted content is removed. The API waits as long.
const PURGE_BUSY: Duration = Duration::from_millis(50);

/// Error of the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file does not exist, is no database, or can't be written.
    #[error("failed to open the state file {} (state.path)", path.display())]
    Open {
        /// The state file.
        path: PathBuf,
        /// The error of SQLite.
        #[source]
        source: rusqlite::Error,
    },
    /// The file can't be created.
    #[error("failed to create the state file {} (state.path)", path.display())]
    Create {
        /// The state file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The lock file can't be created or locked.
    #[error("failed to lock the state file with {} (state.path)", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// Another ingester holds the lock.
    #[error("the state file is in use by another ingester, which holds {} (state.path)", .0.display())]
    InUse(PathBuf),
    /// The file is on a file system whose locks do not work reliably.
    #[error("the state file {} is on {file_system}, a network file system, where SQLite can lose data (state.path)", path.display())]
    NetworkFileSystem {
        /// The state file.
        path: PathBuf,
        /// The type of the file system.
        file_system: String,
    },
    /// The file belongs to another program. It was not changed.
    #[error("the state file {} is an SQLite database of another program (state.path)", .0.display())]
    Foreign(PathBuf),
    /// The file has a newer schema, or an older one that no ingester has upgraded yet.
    #[error(
        "the state file {} has schema version {version}, expected {VERSION}; `ingester run` upgrades older versions",
        path.display()
    )]
    Version {
        /// The state file.
        path: PathBuf,
        /// The version of its schema.
        version: i64,
    },
    /// A read or write of the open file failed.
    #[error("failed to access the state file {}", path.display())]
    Access {
        /// The state file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: AccessError,
    },
}

/// Why a read or write of the open state failed.
#[derive(Debug, Error)]
pub enum AccessError {
    /// SQLite failed, for example on a full disk.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The file contains a value that the ingester never writes.
    #[error("the file is corrupt: invalid {0}")]
    Corrupt(&'static str),
}

/// The name of a state in memory, as in SQLite.
const IN_MEMORY: &str = ":memory:";

/// The state of an ingester. Clones share it.
#[derive(Clone)]
pub struct Store {
    path: Arc<Path>,
    connection: Arc<Mutex<Connection>>,
    /// Held while this process may write.
    _lock: Option<Arc<File>>,
    persistent: bool,
    /// Whether deleted content may still be in the file.
    purge_pending: Arc<AtomicBool>,
}

impl Store {
    /// Opens the state file of the settings, or creates a state in memory.
    ///
    /// # Errors
    /// Returns any [`StoreError`].
    pub fn from_settings(settings: &StateSettings) -> Result<Self, StoreError> {
        match &settings.path {
            Some(path) => Self::open(path),
            None => Self::in_memory(),
        }
    }

    /// Opens or creates the state file at `path` and locks it against other ingesters. Changes no file of another program or
    /// version.
    ///
    /// # Errors
    /// Returns any [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let creating = |source| StoreError::Create {
            path: path.to_owned(),
            source,
        };
        // Ingesters that reach one file by different paths must find the same lock file.
        let path = &location::resolve(path).map_err(creating)?;
        if let Some(file_system) = location::network_file_system(path) {
            let path = path.clone();
            return Err(StoreError::NetworkFileSystem { path, file_system });
        }
        let lock = lock(&lock_path(path))?;
        // SQLite would create the file readable by everyone; its WAL and shared memory files get the same mode.
        drop(open_private(path).map_err(creating)?);
        let connection = Connection::open(path).map_err(opening(path))?;
        Self::from_connection(connection, path, Some(Arc::new(lock)), true)
    }

    /// Opens the state file at `path` for reading, also while an ingester uses it.
    ///
    /// # Errors
    /// Returns any [`StoreError`] except [`StoreError::InUse`].
    pub fn open_shared(path: &Path) -> Result<Self, StoreError> {
        // Not read-only: the WAL of a killed writer must be recovered.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(opening(path))?;
        connection.busy_timeout(BUSY).map_err(opening(path))?;
        let version = identify(&connection, path)?;
        if version != VERSION {
            let path = path.to_owned();
            return Err(StoreError::Version { path, version });
        }
        Ok(Self {
            path: path.into(),
            connection: Arc::new(Mutex::new(connection)),
            _lock: None,
            persistent: true,
            purge_pending: Arc::default(),
        })
    }

    /// Creates a state in memory.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when SQLite runs out of memory.
    pub fn in_memory() -> Result<Self, StoreError> {
        let path = Path::new(IN_MEMORY);
        let connection = Connection::open_in_memory().map_err(opening(path))?;
        Self::from_connection(connection, path, None, false)
    }

    /// Whether the state outlives the process.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    fn from_connection(
        connection: Connection,
        path: &Path,
        lock: Option<Arc<File>>,
        persistent: bool,
    ) -> Result<Self, StoreError> {
        connection.busy_timeout(BUSY).map_err(opening(path))?;
        let version = identify(&connection, path)?;
        configure(&connection, version).map_err(opening(path))?;
        let changes = match usize::try_from(version) {
            Ok(0) => SCHEMA.to_owned(),
            Ok(version) => UPGRADES[version - 1..].concat(),
            Err(_) => {
                let path = path.to_owned();
                return Err(StoreError::Version { path, version });
            }
        };
        let upgrade = format!(
            "BEGIN IMMEDIATE; {changes} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; \
             COMMIT;"
        );
        connection.execute_batch(&upgrade).map_err(opening(path))?;
        let store = Self {
            path: path.into(),
            connection: Arc::new(Mutex::new(connection)),
            _lock: lock,
            persistent,
            purge_pending: Arc::default(),
        };
        // An earlier process may have been killed before.
        store.purge_deleted()?;
        Ok(store)
    }

    /// Runs `work` in a transaction.
    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, AccessError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let commit = || -> Result<T, AccessError> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        commit().map_err(|source| self.access_error(source))
    }

    /// Removes deleted content from free database pages and the WAL. Waits only briefly for readers. If they prevent it,
    /// [`Self::purge_if_pending`] tries again.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn purge_deleted(&self) -> Result<(), StoreError> {
        let purged = self.read(|connection| {
            connection.busy_timeout(PURGE_BUSY)?;
            let purged = purge(connection);
            connection.busy_timeout(BUSY)?;
            Ok(purged?)
        })?;
        self.purge_pending.store(!purged, Ordering::Relaxed);
        Ok(())
    }

    /// Removes deleted content that a reader has kept so far.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn purge_if_pending(&self) -> Result<(), StoreError> {
        if self.purge_pending.load(Ordering::Relaxed) {
            self.purge_deleted()?;
        }
        Ok(())
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, AccessError>) -> Result<T, StoreError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        work(&connection).map_err(|source| self.access_error(source))
    }

    /// Returns the error of a value that the ingester never writes.
    #[must_use]
    pub fn corrupt(&self, value: &'static str) -> StoreError {
        self.access_error(AccessError::Corrupt(value))
    }

    fn access_error(&self, source: AccessError) -> StoreError {
        let path = self.path.to_path_buf();
        StoreError::Access { path, source }
    }
}

/// For `map_err`, with the state file that can't be opened.
fn opening(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Open {
        path: path.to_owned(),
        source,
    }
}

/// Returns the schema version of the state file at `path`, 0 for an empty database.
fn identify(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    match schema_version(connection).map_err(opening(path))? {
        None => Err(StoreError::Foreign(path.to_owned())),
        Some(version) if version > VERSION => {
            let path = path.to_owned();
            Err(StoreError::Version { path, version })
        }
        Some(version) => {
            let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let enabled = connection.set_db_config(no_checkpoint, false);
            enabled.map_err(opening(path))?;
            Ok(version)
        }
    }
}

/// Returns the schema version, 0 for an empty database and `None` for one of another program. Writes nothing, also when
/// the connection is closed afterwards.
fn schema_version(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let is_ours = match (application, version) {
        (APPLICATION_ID, 1..) => true,
        (0, 0) => number("SELECT count(*) FROM sqlite_schema")? == 0,
        // Files before version 4 have no application id.
        (0, 1..=3) => {
            number(
                "SELECT count(*) FROM sqlite_schema WHERE name IN ('runs', 'pages', 'marks') AND type = 'table'",
            )? == 3
        }
        _ => false,
    };
    Ok(is_ours.then_some(version))
}

/// Sets up the connection, and the file of an empty database.
fn configure(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    if version == 0 {
        // A batch of records has hundreds of KiB, and each database page is one write.
        connection.pragma_update(None, "page_size", 16 << 10)?;
    }
    enable_incremental_vacuum(connection, version)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Survives a killed process. After a power failure a page may be fetched or sent again, which is harmless.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // In KiB. Rows are read once, shortly after they were written; a larger cache gains nothing.
    connection.pragma_update(None, "cache_size", -512)?;
    // Deletes overwrite content within database pages that are written anyway. Whole pages leave the file at the end of a
    // run (`purge_deleted`); zeroing them first would cost as much as the delivery.
    connection.pragma_update(None, "secure_delete", "fast")
}

/// Returns whether no deleted content is left, which a reader may prevent.
fn purge(connection: &Connection) -> rusqlite::Result<bool> {
    let vacuum = || {
        let mut free = connection.prepare_cached("PRAGMA incremental_vacuum")?;
        let mut pages = free.query([])?;
        while pages.next()?.is_some() {}
        Ok(())
    };
    match vacuum() {
        Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::DatabaseBusy => {
            return Ok(false);
        }
        vacuumed => vacuumed?,
    }
    let mut checkpoint = connection.prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")?;
    let is_busy: bool = checkpoint.query_row([], |row| row.get(0))?;
    Ok(!is_busy)
}

/// Enables incremental vacuum. A file without it is rewritten once.
fn enable_incremental_vacuum(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    const INCREMENTAL: i64 = 2;
    let mode: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
    if mode != INCREMENTAL {
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        if version > 0 {
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

/// Opens a file for writing. A new file is readable by its owner only.
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

fn from_db(number: i64) -> Result<u64, AccessError> {
    u64::try_from(number).map_err(|_| AccessError::Corrupt("number"))
}

fn length(number: i64) -> Result<usize, AccessError> {
    usize::try_from(number).map_err(|_| AccessError::Corrupt("number"))
}

fn timestamp(milliseconds: i64) -> Result<Timestamp, AccessError> {
    Timestamp::from_millisecond(milliseconds).map_err(|_| AccessError::Corrupt("time"))
}

#[cfg(test)]
mod tests;
