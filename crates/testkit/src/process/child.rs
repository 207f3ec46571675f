//! A running child process: signals, a wait with a timeout, the end of its log.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{ProcessError, Signal, last_lines, send, wait_for};

/// A stop takes effect within milliseconds, except in a thread that waits for a disk.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);

/// A second suffices for a process that does not hang in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// When a child ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// When its [`Child`] is dropped or this process ends, even by `SIGKILL`.
    #[default]
    WithParent,
    /// Never by itself: it runs in its own session until it is stopped by process id.
    Detached,
}

/// A child process. Dropping it kills and reaps it, unless it is [`Lifetime::Detached`].
#[derive(Debug)]
pub struct Child {
    /// Behind a lock, so that no signal goes to a process id that was reaped and reused.
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

    /// The process id. It may belong to another process once the child has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The program's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last `count` lines of the log.
    pub fn last_lines(&self, count: usize) -> String {
        self.log
            .as_deref()
            .map_or_else(|| "(no log)".to_owned(), |log| last_lines(log, count))
    }

    /// The exit status, or `None` while it runs.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>, ProcessError> {
        self.try_wait(&mut self.lock())
    }

    /// Whether it still runs (a frozen process does).
    pub fn is_running(&self) -> bool {
        matches!(self.exit_status(), Ok(None))
    }

    /// Sends a signal; fails with [`ProcessError::Ended`] once it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let mut inner = self.lock();
        match self.try_wait(&mut inner)? {
            Some(_) => Err(ProcessError::Ended { pid: self.pid }),
            None => send(self.pid, signal),
        }
    }

    /// Waits until it ends by itself. After `timeout` fails and leaves it running.
    pub async fn wait(&self, timeout: Duration) -> Result<ExitStatus, ProcessError> {
        wait_for(self.pid, timeout, || self.exit_status()).await
    }

    /// Sends `SIGTERM` and waits. A frozen child takes no `SIGTERM` until it is thawed.
    pub async fn terminate(&self, timeout: Duration) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::SIGTERM)?;
        self.wait(timeout).await
    }

    /// Sends `SIGKILL` and waits.
    pub async fn kill(&self) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::SIGKILL)?;
        self.wait(KILL_TIMEOUT).await
    }

    /// Sends `SIGSTOP` and waits until every thread has stopped. The process keeps its sockets.
    pub async fn freeze(&self) -> Result<(), ProcessError> {
        self.signal(Signal::SIGSTOP)?;
        wait_until_frozen(self.pid).await
    }

    /// Sends `SIGCONT`, so that a frozen process continues.
    pub fn thaw(&self) -> Result<(), ProcessError> {
        self.signal(Signal::SIGCONT)
    }

    fn try_wait(&self, inner: &mut std::process::Child) -> Result<Option<ExitStatus>, ProcessError> {
        let pid = self.pid;
        inner
            .try_wait()
            .map_err(|source| ProcessError::Wait { pid, source })
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
        // Both fail only for a child that has ended and was reaped.
        drop(inner.kill());
        drop(inner.wait());
    }
}

/// Waits until a `SIGSTOP` has taken effect: each thread obeys it on its own, and a `SIGTERM` sent before that overtakes it.
pub(crate) async fn wait_until_frozen(pid: u32) -> Result<(), ProcessError> {
    wait_for(pid, FREEZE_TIMEOUT, || Ok(is_frozen(pid).then_some(()))).await
}

/// Whether every thread has the state `T`, the field after the name in parentheses, or has ended.
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::process::Program;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Program {
        Program::new("sh").args(["-c", script])
    }

    #[tokio::test]
    async fn output_environment_and_exit_status_are_passed() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let program = shell("echo one; echo $WORD >&2; exit 3")
            .env("WORD", "two")
            .log_to(log.path());
        let child = program.spawn().unwrap();
        assert_eq!(child.wait(TIMEOUT).await.unwrap().code(), Some(3));
        assert_eq!(child.last_lines(5), "one\ntwo");
    }

    #[tokio::test]
    async fn frozen_child_terminates_only_after_thaw() {
        let child = shell("exec sleep 60").spawn().unwrap();
        child.freeze().await.unwrap();
        let outcome = child.terminate(Duration::from_millis(200)).await;
        assert!(
            matches!(outcome, Err(ProcessError::StillRunning { .. })),
            "{outcome:?}"
        );
        child.thaw().unwrap();
        assert_eq!(child.wait(TIMEOUT).await.unwrap().signal(), Some(15));
    }

    #[tokio::test]
    async fn signal_to_ended_child_fails() {
        let child = shell("exec sleep 60").spawn().unwrap();
        assert_eq!(child.kill().await.unwrap().signal(), Some(9));
        assert!(matches!(child.freeze().await, Err(ProcessError::Ended { .. })));
    }

    #[test]
    fn child_outlives_the_thread_that_spawned_it() {
        let child = std::thread::spawn(|| shell("exec sleep 60").spawn().unwrap())
            .join()
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.is_running());
    }

    #[test]
    fn dropped_child_is_killed() {
        let child = shell("exec sleep 60").spawn().unwrap();
        let folder = PathBuf::from(format!("/proc/{}", child.pid()));
        assert!(folder.exists());
        drop(child);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn missing_program_fails_with_its_name_in_the_log() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = Program::new("no-such-program")
            .log_to(log.path())
            .spawn()
            .unwrap();
        let status = child.wait(TIMEOUT).await.unwrap();
        assert!(!status.success());
        assert!(child.last_lines(1).contains("no-such-program"));
    }
}
