//! Errors that end a round without a verdict.

use std::path::{Path, PathBuf};

use testkit::cassandra_client::CassandraClientError;
use testkit::kafka_client::KafkaClientError;
use testkit::process::ProcessError;
use testkit::proxy::ProxyError;
use testkit::servers::ServerError;
use testkit::service::ServiceError;
use testkit::workspace::WorkspaceError;

use crate::cluster::small_disk::DiskError;
use crate::services::clock::ClockError;

/// A failure of the campaign itself. A failure of the pipeline is a violation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(transparent)]
    KafkaClient(#[from] KafkaClientError),
    #[error(transparent)]
    CassandraClient(#[from] CassandraClientError),
    #[error("failed to administer kafka")]
    KafkaAdmin(#[from] rdkafka::error::KafkaError),
    #[error("failed to build an HTTP client")]
    HttpClient(#[source] reqwest::Error),
    #[error("failed to use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Clock(#[from] ClockError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A step that the scenario needs, with the end of its log.
    #[error("failed to {operation}: {log}")]
    Step { operation: &'static str, log: String },
}

impl RoundError {
    /// Adds the path to an I/O error.
    pub(crate) fn file(path: &Path) -> impl Fn(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File {
            path: path.clone(),
            source,
        }
    }

    pub(crate) fn step(operation: &'static str, log: impl Into<String>) -> Self {
        let log = log.into();
        Self::Step { operation, log }
    }
}
