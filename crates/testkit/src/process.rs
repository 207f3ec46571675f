//! Child processes that end with their parent, with access to their logs.
//!
//! Spawns, signals and waits. Knows nothing of Kafka, Cassandra or the services.

mod child;
mod detached;
mod log_tail;
mod program;
mod spawner;
pub mod usage;

pub(crate) use child::wait_until_frozen;
pub use child::{Child, Lifetime};
pub use detached::DetachedProcess;
pub use log_tail::last_lines;
pub use nix::sys::signal::Signal;
pub use program::Program;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// The interval of polls. A poll costs one system call.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Why an operation on a child process failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum ProcessError {
    /// `setpriv` or `setsid` is absent, or the operating system has no process left.
    #[error("failed to start {program}")]
    Spawn { program: String, source: io::Error },
    #[error("failed to open the log {}", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("failed to send {signal} to process {pid}")]
    Signal {
        signal: Signal,
        pid: u32,
        source: nix::Error,
    },
    #[error("failed to read the state of process {pid}")]
    Wait { pid: u32, source: io::Error },
    /// The process has ended, so it takes no signal.
    #[error("process {pid} has ended")]
    Ended { pid: u32 },
    #[error("process {pid} still runs after {waited:?}")]
    StillRunning { pid: u32, waited: Duration },
}

/// Polls until `poll` returns a value; fails with [`ProcessError::StillRunning`] after `timeout`.
pub(crate) async fn wait_for<T>(
    pid: u32,
    timeout: Duration,
    poll: impl Fn() -> Result<Option<T>, ProcessError>,
) -> Result<T, ProcessError> {
    let until = Instant::now() + timeout;
    loop {
        if let Some(value) = poll()? {
            return Ok(value);
        }
        if Instant::now() >= until {
            return Err(ProcessError::StillRunning { pid, waited: timeout });
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn send(pid: u32, signal: Signal) -> Result<(), ProcessError> {
    // Linux's process ids end at 2^22, so the fallback is never taken.
    let target = Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
    kill(target, signal).map_err(|source| ProcessError::Signal { signal, pid, source })
}
