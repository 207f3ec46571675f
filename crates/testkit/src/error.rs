//! Errors of the demo.

use std::path::PathBuf;

use thiserror::Error;

use crate::cassandra_client::CassandraClientError;
use crate::kafka_client::KafkaClientError;
use crate::process::ProcessError;
use crate::randomuser::StartError;
use crate::servers::ServerError;
use crate::service::ServiceError;
use crate::workspace::WorkspaceError;

/// The demo could not be run.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum TestkitError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    CassandraClient(#[from] CassandraClientError),
    #[error(transparent)]
    KafkaClient(#[from] KafkaClientError),
    #[error(transparent)]
    Api(#[from] StartError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("ask a part of what runs")]
    Http(#[from] reqwest::Error),
    #[error("failed to run {0}")]
    Command(String, #[source] std::io::Error),
    #[error("use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the run is not complete:\n{0}")]
    Incomplete(String),
}

impl TestkitError {
    /// For `map_err`: the file that could not be used.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }
}

/// An error with its causes, on one line as far as they are.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
