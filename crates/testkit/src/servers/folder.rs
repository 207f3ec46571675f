//! A cluster's folder: its own for a test, removed afterwards, or one the caller names and keeps.
//!
//! With `TESTBED_KEEP` in the environment a test's folder stays until the next cluster is started.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::ServerError;
use crate::workspace;

/// The folder of a cluster's data, configuration and logs.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Removes the folder when dropped. Ahead of the lock, which is to be held until the folder is gone.
    _temporary: Option<TempDir>,
    /// Held while the owner lives, however it dies.
    _lock: Option<File>,
}

impl Folder {
    /// A folder that the caller has named; created if absent, never removed.
    pub(super) fn named(path: &Path) -> Result<Self, ServerError> {
        fs::create_dir_all(path).map_err(ServerError::file(path))?;
        Ok(Self {
            path: path.to_path_buf(),
            _temporary: None,
            _lock: None,
        })
    }

    /// A fresh folder under `target/testkit`, after what dead owners left there has been removed.
    pub(super) fn fresh(what: &str) -> Result<Self, ServerError> {
        let base = workspace::target_dir()?.join("testkit");
        fs::create_dir_all(&base).map_err(ServerError::file(&base))?;
        // Held until the new folder has its lock, so that no other process takes it for an orphan.
        let gate_path = base.join("lock");
        let gate = File::create(&gate_path).map_err(ServerError::file(&gate_path))?;
        gate.lock().map_err(ServerError::file(&gate_path))?;
        remove_orphans(&base);
        let prefix = format!("{what}-{}-", std::process::id());
        let mut temporary = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(&base)
            .map_err(ServerError::file(&base))?;
        temporary.disable_cleanup(std::env::var_os("TESTBED_KEEP").is_some());
        let lock_path = temporary.path().join("owner.lock");
        let lock = File::create(&lock_path).map_err(ServerError::file(&lock_path))?;
        lock.lock().map_err(ServerError::file(&lock_path))?;
        Ok(Self {
            path: temporary.path().to_path_buf(),
            _temporary: Some(temporary),
            _lock: Some(lock),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A folder whose lock can be had is an orphan: its owner has died, or has kept it for a look.
fn remove_orphans(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for folder in entries.flatten().map(|entry| entry.path()) {
        let owner = File::open(folder.join("owner.lock"));
        if owner.is_ok_and(|lock| lock.try_lock().is_ok())
            && let Err(error) = fs::remove_dir_all(&folder)
        {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove an old cluster's data");
        }
    }
}
