//! What an earlier run has left on the disk: a bench that was broken off must not go on where it was, nor be taken for
//! this one.

use std::io::{self, ErrorKind};
use std::path::Path;

/// Removes a folder with all that is in it; one that is not there is as good as removed.
///
/// # Errors
/// When it can't be removed.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    unless_absent(std::fs::remove_dir_all(path))
}

/// The same of a file.
///
/// # Errors
/// When it can't be removed.
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
    fn what_is_not_there_is_as_good_as_removed() {
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
