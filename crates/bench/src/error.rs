//! The benchmarks' errors.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::publisher::benthos::BenthosError;
use crate::publisher::load::LoadError;
use crate::sink::SinkError;
use testkit::cassandra_client::CassandraClientError;
use testkit::kafka_client::KafkaClientError;
use testkit::process::ProcessError;
use testkit::randomuser::StartError;
use testkit::servers::ServerError;
use testkit::service::ServiceError;
use testkit::workspace::WorkspaceError;

/// A benchmark failed.
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
    #[error(transparent)]
    Benthos(#[from] BenthosError),
    #[error("failed to send an HTTP request to a service or the API")]
    Http(#[from] reqwest::Error),
    #[error("failed to load {on}")]
    Load {
        on: &'static str,
        #[source]
        source: LoadError,
    },
    #[error("failed to parse the publisher's address {0}")]
    Address(String),
    #[error("baseline process failed: {0}")]
    Baseline(String),
    #[error("only {stored} of {expected} rows written after {} s:\n{log}", waited.as_secs())]
    Stuck {
        stored: u64,
        expected: u64,
        waited: Duration,
        log: String,
    },
    #[error("{sink} stored user {id} differently from the topic: {why}")]
    Unequal {
        sink: String,
        id: uuid::Uuid,
        why: String,
    },
    #[error("failed to run {0}")]
    Command(String, #[source] std::io::Error),
    #[error("{command} failed: {output}")]
    Failed { command: String, output: String },
    #[error("failed to access {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to parse {} as a benchmark result", path.display())]
    InvalidReport {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("failed to draw {}: {reason}", path.display())]
    Picture { path: PathBuf, reason: String },
    #[error("incomplete run:\n{0}")]
    Incomplete(String),
    #[error("no API request within {} s:\n{log}", waited.as_secs())]
    NoRequest { waited: Duration, log: String },
}

impl BenchError {
    /// Wraps an I/O error with the file's path, for `map_err`.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }
}
