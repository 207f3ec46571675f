//! Removes files of earlier runs, so that an interrupted benchmark does not affect the next.

use std::io::{self, ErrorKind};
use std::path::Path;

/// Removes a folder with its contents. A missing folder is no error.
///
/// # Errors
/// When the folder can't be removed.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    unless_absent(std::fs::remove_dir_all(path))
}

/// Removes a file. A missing file is no error.
///
/// # Errors
/// When the file can't be removed.
pub fn remove_file(path: &Path) -> io::Result<()> {
    unless_absent(std::fs::remove_file(path))
}

fn unless_absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_a_missing_path_succeeds() {
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
