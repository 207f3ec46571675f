//! Errors of the demo.

use std::path::PathBuf;

use thiserror::Error;

use crate::cassandra_client::CassandraClientError;
use crate::kafka_client::KafkaClientError;
use crate::process::ProcessError;
use crate::randomuser::ApiStartError;
use crate::record_type::RecordTypeError;
use crate::servers::ServerError;
use crate::service::ServiceError;
use crate::workspace::WorkspaceError;

/// Why the demo failed.
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
    Api(#[from] ApiStartError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("failed to send a request to the API or the publisher")]
    Http(#[from] reqwest::Error),
    #[error("failed to run {0}")]
    Command(String, #[source] std::io::Error),
    #[error("failed to access {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("failed to find the summary of the ingester's run:\n{0}")]
    Incomplete(String),
    #[error("the publisher responded with {status} to valid records: {body}")]
    NotAccepted {
        status: reqwest::StatusCode,
        body: String,
    },
    #[error(transparent)]
    RecordType(#[from] RecordTypeError),
}

impl TestkitError {
    /// For `map_err`, with the file that could not be accessed.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }
}

/// Formats an error and its causes, joined by colons.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
