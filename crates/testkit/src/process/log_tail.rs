//! The end of a log file, for error messages.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Enough for forty lines of a server's log with a stack trace.
const TAIL_BYTES: u64 = 64 * 1024;

/// Returns the last `count` lines of `path`, or a line with the reason why it is unreadable.
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
    fn only_the_last_lines_of_a_long_log_are_returned() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(last_lines(file.path(), 2), "line 99998\nline 99999");
    }

    #[test]
    fn missing_log_is_reported() {
        assert!(last_lines(Path::new("/nowhere/log"), 40).contains("no log at /nowhere/log"));
    }
}
