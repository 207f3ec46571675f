//! A process that an earlier run of this program started and left running, known by its process id.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::child::{send, wait_until_frozen};
use super::{POLL_INTERVAL, ProcessError, Signal};

/// A running process of ours that is nobody's child. Dropped, it runs on.
#[derive(Debug, Clone)]
pub struct Adopted {
    pid: u32,
    marker: String,
}

impl Adopted {
    /// Reads a process id from `file`; `None` when the file is absent or unreadable, when no such process runs,
    /// or when its command line does not contain `marker`: an id that was given to somebody else's process.
    #[must_use]
    pub fn find(file: &Path, marker: &str) -> Option<Self> {
        let pid = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
        let process = Self {
            pid,
            marker: marker.to_owned(),
        };
        process.is_running().then_some(process)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs. The command line is empty after the end until the process is reaped, and for a moment
    /// while it executes another program; the state tells which.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match std::fs::read(format!("/proc/{}/cmdline", self.pid)) {
            Ok(line) if line.is_empty() => !self.is_zombie(),
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

    /// Sends a signal.
    ///
    /// # Errors
    /// [`ProcessError::Ended`] when it no longer runs.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        if self.is_running() {
            send(self.pid, signal)
        } else {
            Err(ProcessError::Ended { pid: self.pid })
        }
    }

    /// `SIGSTOP`, and waits until every thread has stopped.
    ///
    /// # Errors
    /// As [`Adopted::signal`]; [`ProcessError::StillRunning`] when a thread hangs in the kernel.
    pub async fn freeze(&self) -> Result<(), ProcessError> {
        self.signal(Signal::SIGSTOP)?;
        wait_until_frozen(self.pid).await
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`ProcessError::StillRunning`] after `deadline`.
    pub async fn wait(&self, deadline: Duration) -> Result<(), ProcessError> {
        let until = Instant::now() + deadline;
        while self.is_running() {
            if Instant::now() >= until {
                return Err(ProcessError::StillRunning {
                    pid: self.pid,
                    waited: deadline,
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Lifetime, Program};

    #[tokio::test]
    async fn a_detached_process_is_found_by_its_file_and_ends_by_a_signal() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let child = Program::new("sleep")
            .arg("61.25")
            .lifetime(Lifetime::Detached)
            .spawn()
            .unwrap();
        std::fs::write(file.path(), child.pid().to_string()).unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        let adopted = loop {
            // Between fork and exec the command line is still that of `setsid`.
            match Adopted::find(file.path(), "sleep\u{0}61.25") {
                Some(adopted) if !is_setsid(adopted.pid()) => break adopted,
                _ => assert!(Instant::now() < until, "the process never appeared"),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        drop(child);
        assert!(adopted.is_running());
        adopted.signal(Signal::SIGKILL).unwrap();
        adopted.wait(Duration::from_secs(5)).await.unwrap();
    }

    fn is_setsid(pid: u32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with("setsid"))
    }

    #[test]
    fn a_process_of_somebody_else_under_the_same_id_is_not_ours() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), std::process::id().to_string()).unwrap();
        assert!(Adopted::find(file.path(), "a folder that no command line names").is_none());
    }
}
