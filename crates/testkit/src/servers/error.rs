//! What can go wrong with a server, each with what a person needs to see.

use std::path::PathBuf;
use std::time::Duration;

use super::ArtifactError;
use crate::process::ProcessError;
use crate::workspace::WorkspaceError;

/// Why a server could not be started, stopped or used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The server pool could not serve a lease.
    #[error("the server pool failed: {0}")]
    Pool(String),
    /// The target folder was not found.
    #[error("no place for the servers' data")]
    Workspace(#[from] WorkspaceError),
    /// The jars could not be fetched.
    #[error("no jars to run")]
    Artifacts(#[from] ArtifactError),
    /// A process could not be started, signalled or waited for.
    #[error("{server}")]
    Process {
        /// The node's name.
        server: String,
        /// The cause.
        #[source]
        source: ProcessError,
    },
    /// A folder or configuration file could not be written, read or removed.
    #[error("cannot use {}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// `nodetool` did not do what it was told.
    #[error("nodetool {command}:\n{output}")]
    Nodetool {
        /// What it was told.
        command: String,
        /// What it printed last.
        output: String,
    },
    /// More or fewer nodes than the testkit runs.
    #[error("{0} nodes asked for, 1 to 3 are possible")]
    NodeCount(usize),
    /// No node has this index.
    #[error("there is no node {0}")]
    NoSuchNode(usize),
    /// No free ports were found.
    #[error("no free ports after {attempts} attempts")]
    NoFreePort {
        /// How many were tried.
        attempts: usize,
    },
    /// The node ended while it was starting.
    #[error("{server} ended at start ({status}); the end of its log:\n{log}")]
    Ended {
        /// The node's name.
        server: String,
        /// Its exit status.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// The node did not become ready in time.
    #[error("{server} is not ready after {waited:?}; the end of its log:\n{log}")]
    NotReady {
        /// The node's name.
        server: String,
        /// How long it was waited for.
        waited: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// The node is not running, so nothing can be done to it.
    #[error("{server} is not running")]
    NotRunning {
        /// The node's name.
        server: String,
    },
    /// A Kafka client of the testkit failed.
    #[error("cannot {operation} in Kafka")]
    Kafka {
        /// What was asked.
        operation: &'static str,
        /// The client's reason.
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// A standing stack of another shape lies in the folder.
    #[error("{} holds {found}, not {asked}; remove it first with `scripts/stack down --wipe`", dir.display())]
    OtherStack {
        /// The stack's folder.
        dir: PathBuf,
        /// What lies there.
        found: String,
        /// What was asked for.
        asked: String,
    },
}

impl ServerError {
    /// Whether a start failed because somebody else took a port between choosing and using it.
    pub(super) fn is_port_conflict(&self) -> bool {
        let Self::Ended { log, .. } = self else {
            return false;
        };
        [
            "Address already in use",
            "BindException",
            "is in use by another process",
        ]
        .iter()
        .any(|sign| log.contains(sign))
    }

    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }
}
