//! Removes what an earlier run left on disk, so that a run neither continues nor reports it.

use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::{Context as _, Result};

/// Removes a folder with its contents, if it exists.
pub fn remove_folder(path: &Path) -> Result<()> {
    ignore_missing(std::fs::remove_dir_all(path), path)
}

/// Removes a file, if it exists.
pub fn remove_file(path: &Path) -> Result<()> {
    ignore_missing(std::fs::remove_file(path), path)
}

fn ignore_missing(removed: io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("failed to remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_and_folders_count_as_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, file) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("ingester.db"), "old").unwrap();
        std::fs::write(&file, "old").unwrap();
        for _ in 0..2 {
            remove_folder(&inner).unwrap();
            remove_file(&file).unwrap();
        }
        assert!(!inner.exists() && !file.exists());
        assert!(remove_file(folder.path()).is_err());
    }
}
