//! A running child: signals, a wait with a deadline, the end of its log.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::{Lifetime, POLL_INTERVAL, ProcessError, last_lines};

/// A stop takes effect within milliseconds, except in a thread that waits for a disk.
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

/// A child process. Dropped, it is killed and reaped, unless it is [`Lifetime::Detached`].
#[derive(Debug)]
pub struct Child {
    /// Behind a lock so that a signal is never sent to a process id that was reaped and given to another.
    inner: Mutex<std::process::Child>,
    pid: u32,
    name: String,
    log: Option<PathBuf>,
    lifetime: Lifetime,
}

impl Child {
    pub(super) fn new(
        inner: std::process::Child,
        name: String,
        log: Option<PathBuf>,
        lifetime: Lifetime,
    ) -> Self {
        Self {
            pid: inner.id(),
            inner: Mutex::new(inner),
            name,
            log,
            lifetime,
        }
    }

    /// The process id. Meaningless to others once the child has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The program's name, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The log file, when there is one.
    #[must_use]
    pub fn log(&self) -> Option<&Path> {
        self.log.as_deref()
    }

    /// The last `count` lines of the log.
    #[must_use]
    pub fn last_lines(&self, count: usize) -> String {
        self.log
            .as_deref()
            .map_or_else(|| "(no log)".to_owned(), |log| last_lines(log, count))
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>, ProcessError> {
        self.lock().try_wait().map_err(|source| ProcessError::Wait {
            pid: self.pid,
            source,
        })
    }

    /// Whether it still runs (a stopped process does).
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.exit_status(), Ok(None))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`ProcessError::Ended`] when there is nobody left to take it.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let mut inner = self.lock();
        let ended = inner.try_wait().map_err(|source| ProcessError::Wait {
            pid: self.pid,
            source,
        })?;
        if ended.is_some() {
            return Err(ProcessError::Ended { pid: self.pid });
        }
        send(self.pid, signal)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// [`ProcessError::StillRunning`] after `deadline`; the child is left as it is.
    pub async fn wait(&self, deadline: Duration) -> Result<ExitStatus, ProcessError> {
        let until = Instant::now() + deadline;
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if Instant::now() >= until {
                return Err(ProcessError::StillRunning {
                    pid: self.pid,
                    waited: deadline,
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// `SIGTERM`, then [`Child::wait`].
    ///
    /// # Errors
    /// As both; a frozen child takes no `SIGTERM` until it is thawed.
    pub async fn terminate(&self, deadline: Duration) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline).await
    }

    /// `SIGKILL`, then [`Child::wait`].
    ///
    /// # Errors
    /// As both; a second suffices for any process that does not hang in the kernel.
    pub async fn kill(&self) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::SIGKILL)?;
        self.wait(Duration::from_secs(10)).await
    }

    /// `SIGSTOP`, and waits until every thread has stopped. The process keeps its sockets and does nothing.
    ///
    /// # Errors
    /// As [`Child::signal`]; [`ProcessError::StillRunning`] when a thread hangs in the kernel.
    pub async fn freeze(&self) -> Result<(), ProcessError> {
        self.signal(Signal::SIGSTOP)?;
        wait_until_frozen(self.pid).await
    }

    /// `SIGCONT`: a frozen process goes on where it was.
    ///
    /// # Errors
    /// As [`Child::signal`].
    pub fn thaw(&self) -> Result<(), ProcessError> {
        self.signal(Signal::SIGCONT)
    }

    fn lock(&self) -> MutexGuard<'_, std::process::Child> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Detached {
            return;
        }
        let mut inner = self.lock();
        // Both fail only for a child that has already ended and been reaped, which is what is wanted.
        drop(inner.kill());
        drop(inner.wait());
    }
}

/// The signal is sent at once but obeyed by each thread in its own time; a `SIGTERM` sent meanwhile would even
/// overtake it.
pub(super) async fn wait_until_frozen(pid: u32) -> Result<(), ProcessError> {
    let until = Instant::now() + FREEZE_DEADLINE;
    while !is_frozen(pid) {
        if Instant::now() >= until {
            return Err(ProcessError::StillRunning {
                pid,
                waited: FREEZE_DEADLINE,
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Whether every thread has the state `T`, the field after the name in parentheses, or is gone.
fn is_frozen(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok())
        .all(|stat| {
            stat.rsplit_once(") ")
                .is_none_or(|(_, state)| state.starts_with(['T', 'Z', 'X']))
        })
}

pub(super) fn send(pid: u32, signal: Signal) -> Result<(), ProcessError> {
    // Linux's process ids end at 2^22, so the fallback, which no process has, is never taken.
    let target = Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
    kill(target, signal).map_err(|source| ProcessError::Signal { signal, pid, source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::process::Program;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Program {
        Program::new("sh").args(["-c", script])
    }

    #[tokio::test]
    async fn output_environment_and_exit_status_come_through() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let program = shell("echo one; echo $WORD >&2; exit 3")
            .env("WORD", "two")
            .log_to(log.path());
        let child = program.spawn().unwrap();
        assert_eq!(child.wait(DEADLINE).await.unwrap().code(), Some(3));
        assert_eq!(child.last_lines(5), "one\ntwo");
    }

    #[tokio::test]
    async fn a_frozen_child_ends_only_after_the_thaw() {
        let child = shell("exec sleep 60").spawn().unwrap();
        child.freeze().await.unwrap();
        let outcome = child.terminate(Duration::from_millis(200)).await;
        assert!(
            matches!(outcome, Err(ProcessError::StillRunning { .. })),
            "{outcome:?}"
        );
        child.thaw().unwrap();
        assert_eq!(child.wait(DEADLINE).await.unwrap().signal(), Some(15));
    }

    #[tokio::test]
    async fn a_dead_child_takes_no_signal() {
        let child = shell("exec sleep 60").spawn().unwrap();
        assert_eq!(child.kill().await.unwrap().signal(), Some(9));
        assert!(matches!(child.freeze().await, Err(ProcessError::Ended { .. })));
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let child = std::thread::spawn(|| shell("exec sleep 60").spawn().unwrap())
            .join()
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.is_running());
    }

    #[test]
    fn a_dropped_child_is_dead() {
        let child = shell("exec sleep 60").spawn().unwrap();
        let folder = PathBuf::from(format!("/proc/{}", child.pid()));
        assert!(folder.exists());
        drop(child);
        assert!(!folder.exists());
    }

    #[test]
    fn an_absent_program_ends_with_a_status_and_its_name_in_the_log() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = Program::new("no-such-program")
            .log_to(log.path())
            .spawn()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let status = runtime.block_on(child.wait(DEADLINE)).unwrap();
        assert!(!status.success());
        assert!(child.last_lines(1).contains("no-such-program"));
    }
}
