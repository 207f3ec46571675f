//! The end of a log file, for an error message.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Enough for forty lines of a server's log with a stack trace; bounds what is read of a log of any size.
const TAIL_BYTES: u64 = 64 * 1024;

/// The last `count` lines of `path`; a log that cannot be read yields a line that says so.
#[must_use]
pub fn last_lines(path: &Path, count: usize) -> String {
    match tail(path) {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(count)..].join("\n")
        }
        Err(error) => format!("(no log at {}: {error})", path.display()),
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_of_a_long_log_are_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(last_lines(file.path(), 2), "line 99998\nline 99999");
    }

    #[test]
    fn a_missing_log_is_said_to_be_missing() {
        assert!(last_lines(Path::new("/nowhere/log"), 40).contains("no log at /nowhere/log"));
    }
}
