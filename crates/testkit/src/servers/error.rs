//! Errors of servers, with the end of the log where there is one.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{ArtifactError, StackShape};
use crate::process::ProcessError;
use crate::workspace::WorkspaceError;

/// Why a server could not be started, stopped or used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum ServerError {
    #[error("failed to use the server pool: {0}")]
    Pool(String),
    #[error("failed to find a folder for the servers' data")]
    Workspace(#[from] WorkspaceError),
    #[error("failed to provide the servers' jars")]
    Artifacts(#[from] ArtifactError),
    #[error("failed to run {server}")]
    Process { server: String, source: ProcessError },
    #[error("failed to access {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("failed to run nodetool {command}:\n{output}")]
    Nodetool { command: String, output: String },
    #[error("{nodes} nodes are not possible: set 1 to {max}")]
    NodeCount { nodes: usize, max: usize },
    #[error("node {0} does not exist")]
    NoSuchNode(usize),
    #[error("failed to find a free port in {attempts} attempts")]
    NoFreePort { attempts: usize },
    #[error("{server} ended ({status}); the end of its log:\n{log}")]
    Ended {
        server: String,
        status: String,
        log: String,
    },
    #[error("{server} is not ready after {waited:?}; the end of its log:\n{log}")]
    NotReady {
        server: String,
        waited: Duration,
        log: String,
    },
    #[error("{server} is not running")]
    NotRunning { server: String },
    #[error("failed to {operation} in Kafka")]
    Kafka {
        operation: &'static str,
        source: rdkafka::error::KafkaError,
    },
    #[error("{} holds {found}, not {requested}: remove it first with `scripts/stack down --wipe`", dir.display())]
    OtherStack {
        dir: PathBuf,
        found: StackShape,
        requested: StackShape,
    },
}

impl ServerError {
    /// Whether another process took a port between its lease and its use.
    pub(super) fn is_port_conflict(&self) -> bool {
        const SIGNS: [&str; 3] = [
            "Address already in use",
            "BindException",
            "is in use by another process",
        ];
        matches!(self, Self::Ended { log, .. } if SIGNS.iter().any(|sign| log.contains(sign)))
    }

    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }
}
