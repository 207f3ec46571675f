//! A process that an earlier run of this program left running, found by its process id.

use std::path::Path;

use super::{ProcessError, Signal, send};

/// A process of an earlier run. Dropping it leaves it running.
#[derive(Debug, Clone)]
pub struct DetachedProcess {
    pid: u32,
    marker: String,
}

impl DetachedProcess {
    /// Reads the process id from `file`. Returns `None` when the file is unreadable, the process has ended, or its
    /// command line lacks `marker`, so the id belongs to another program now.
    pub fn find(file: &Path, marker: &str) -> Option<Self> {
        let pid = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
        let process = Self {
            pid,
            marker: marker.to_owned(),
        };
        process.is_running().then_some(process)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it runs. The command line is empty from the end until the process is reaped, and for a moment while it
    /// executes another program; the state tells which. The first thread may have ended before others, which hold the
    /// process's files and ports.
    pub fn is_running(&self) -> bool {
        match std::fs::read(format!("/proc/{}/cmdline", self.pid)) {
            Ok(line) if line.is_empty() => !self.is_zombie() || self.threads() > 1,
            Ok(line) => String::from_utf8_lossy(&line).contains(&self.marker),
            Err(_) => false,
        }
    }

    fn is_zombie(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        // The name in parentheses may contain spaces; the state follows it.
        let state = stat
            .as_deref()
            .ok()
            .and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
        matches!(state, None | Some('Z' | 'X'))
    }

    fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count)
    }

    /// Sends a signal; fails with [`ProcessError::Ended`] when it no longer runs.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        if self.is_running() {
            send(self.pid, signal)
        } else {
            Err(ProcessError::Ended { pid: self.pid })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::{Lifetime, Program, wait_for};

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn detached_process_is_found_by_its_file_and_signalled() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let child = Program::new("sleep")
            .arg("61.25")
            .lifetime(Lifetime::Detached)
            .spawn()
            .unwrap();
        std::fs::write(file.path(), child.pid().to_string()).unwrap();
        // Between fork and exec the command line is still that of `setsid`.
        let find = || {
            Ok(DetachedProcess::find(file.path(), "sleep\u{0}61.25")
                .filter(|process| !is_setsid(process.pid())))
        };
        let process = wait_for(child.pid(), TIMEOUT, find).await.unwrap();
        drop(child);
        assert!(process.is_running());
        process.signal(Signal::SIGKILL).unwrap();
        let ended = || Ok((!process.is_running()).then_some(()));
        wait_for(process.pid(), TIMEOUT, ended).await.unwrap();
    }

    fn is_setsid(pid: u32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with("setsid"))
    }

    #[test]
    fn reused_process_id_of_another_program_is_not_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), std::process::id().to_string()).unwrap();
        assert!(DetachedProcess::find(file.path(), "a folder that no command line names").is_none());
    }
}
