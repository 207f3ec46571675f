//! Child processes that die with their parent, however it dies, and whose log is at hand when they fail.
//!
//! Knows nothing of Kafka, Cassandra or the services: it spawns, signals and waits.

mod adopted;
mod child;
mod log_tail;
mod program;
mod spawner;
pub mod usage;

pub use adopted::Adopted;
pub use child::Child;
pub use log_tail::last_lines;
pub use nix::sys::signal::Signal;
pub use program::{Lifetime, Program};

use std::path::PathBuf;
use std::time::Duration;

/// How often a wait looks again. The cost of one look is a system call.
pub const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What failed with a child process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be started: `setpriv` or `setsid` is absent, or there is no process left.
    #[error("cannot start {program}")]
    Spawn {
        /// The program's name, and the wrapper's.
        program: String,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The log file could not be opened.
    #[error("cannot open the log {}", path.display())]
    Log {
        /// The log file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A signal could not be delivered.
    #[error("cannot send {signal} to process {pid}")]
    Signal {
        /// The signal.
        signal: Signal,
        /// The process.
        pid: u32,
        /// The operating system's reason.
        #[source]
        source: nix::Error,
    },
    /// The state of the child could not be asked.
    #[error("cannot wait for process {pid}")]
    Wait {
        /// The process.
        pid: u32,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The process has ended already, so that it takes no signal.
    #[error("process {pid} has ended")]
    Ended {
        /// The process.
        pid: u32,
    },
    /// The process lives on past the deadline.
    #[error("process {pid} still runs after {waited:?}")]
    StillRunning {
        /// The process.
        pid: u32,
        /// How long it was waited for.
        waited: Duration,
    },
}
