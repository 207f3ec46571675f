//! A cluster's folder: a temporary one, removed on drop, or one that the caller names and keeps.
//!
//! With `TESTKIT_KEEP` in the environment a temporary folder stays until the next cluster is started.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::ServerError;
use crate::workspace;

/// The folder of a cluster's data, configuration and logs.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Removes the folder on drop. Ahead of the lock, which is held until the folder is removed.
    _temporary: Option<TempDir>,
    /// Held while the owner lives, so that a new owner can tell orphans.
    _lock: Option<File>,
}

impl Folder {
    /// Creates the folder at `path`, or a temporary one for a cluster of `kind`.
    pub(super) fn open(path: Option<&Path>, kind: &str) -> Result<Self, ServerError> {
        let Some(path) = path else {
            return Self::temporary(kind);
        };
        fs::create_dir_all(path).map_err(ServerError::file(path))?;
        Ok(Self {
            path: path.to_path_buf(),
            _temporary: None,
            _lock: None,
        })
    }

    /// Creates a folder under `target/testkit` after the removal of orphans.
    fn temporary(kind: &str) -> Result<Self, ServerError> {
        let base = workspace::target_dir()?.join("testkit");
        fs::create_dir_all(&base).map_err(ServerError::file(&base))?;
        // Held until the new folder has its lock, so that no other process takes it for an orphan.
        let _gate = locked(&base.join("lock"))?;
        remove_orphans(&base);
        let prefix = format!("{kind}-{}-", std::process::id());
        let mut temporary = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(&base)
            .map_err(ServerError::file(&base))?;
        temporary.disable_cleanup(std::env::var_os("TESTKIT_KEEP").is_some());
        Ok(Self {
            path: temporary.path().to_path_buf(),
            _lock: Some(locked(&temporary.path().join("owner.lock"))?),
            _temporary: Some(temporary),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn locked(path: &Path) -> Result<File, ServerError> {
    let lock = || {
        let file = File::create(path)?;
        file.lock().map(|()| file)
    };
    lock().map_err(ServerError::file(path))
}

/// Removes the folders whose owner has ended: their locks are free.
fn remove_orphans(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for folder in entries.flatten().map(|entry| entry.path()) {
        let owner = File::open(folder.join("owner.lock"));
        if owner.is_ok_and(|lock| lock.try_lock().is_ok())
            && let Err(error) = fs::remove_dir_all(&folder)
        {
            tracing::warn!(folder = %folder.display(), %error, "failed to remove an orphaned folder");
        }
    }
}

/// Writes a configuration file.
pub(super) fn write(path: &Path, text: &str) -> Result<(), ServerError> {
    fs::write(path, text).map_err(ServerError::file(path))
}
