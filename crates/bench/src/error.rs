//! Errors of a bench.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::sink::SinkError;
use testkit::cassandra_client::CassandraClientError;
use testkit::kafka_client::KafkaClientError;
use testkit::process::ProcessError;
use testkit::randomuser::StartError;
use testkit::servers::ServerError;
use testkit::service::ServiceError;
use testkit::workspace::WorkspaceError;

/// A bench could not measure.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum BenchError {
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
    Sink(#[from] SinkError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("ask a part of what runs")]
    Http(#[from] reqwest::Error),
    #[error("the ceiling's process failed: {0}")]
    Ceiling(String),
    #[error("{stored} of {expected} rows after {} s:\n{log}", waited.as_secs())]
    Stuck {
        stored: u64,
        expected: u64,
        waited: Duration,
        log: String,
    },
    #[error("{sink} did not store user {id} as it is in the topic: {why}")]
    Unequal {
        sink: String,
        id: uuid::Uuid,
        why: String,
    },
    #[error("run {0}")]
    Command(String, #[source] std::io::Error),
    #[error("{command} failed: {output}")]
    Failed { command: String, output: String },
    #[error("use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is no result of a bench", path.display())]
    NoReport {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("draw {}: {reason}", path.display())]
    Picture { path: PathBuf, reason: String },
    #[error("the run is not complete:\n{0}")]
    Incomplete(String),
    #[error("no request came within {} s:\n{log}", waited.as_secs())]
    NoRequest { waited: Duration, log: String },
}

impl BenchError {
    /// For `map_err`: the file that could not be used.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }
}
