//! Peers: other programs that do the same work, with pinned versions and the settings that their users would
//! choose.
//!
//! The first use installs each into the target folder. `crates/bench/peers/README.md` explains the settings. Builds
//! and tests do not need them.

mod benthos;
pub mod connect;
pub mod flink;
mod java;
pub mod python;
pub mod spark;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cleanup;
use crate::publisher::benthos::BenthosError;
use crate::report::reason;
use crate::sink::{Sink, SinkError};
use testkit::process::ProcessError;
use testkit::servers::ArtifactError;
use testkit::workspace::WorkspaceError;

/// A peer of the streamer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Spark Structured Streaming with the Cassandra connector, as in the original
    Spark,
    /// Benthos, `kafka_franz` to `cassandra`
    Benthos,
    /// Flink with its own connectors
    Flink,
    /// Kafka Connect with Camel's sink for Cassandra
    Connect,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Spark, Self::Benthos, Self::Flink, Self::Connect];

    /// Installs the peer unless it is already installed.
    ///
    /// # Errors
    /// When the download or the build fails.
    pub async fn install(self) -> Result<Box<dyn Sink>, PeerError> {
        let sink: Box<dyn Sink> = match self {
            Self::Spark => Box::new(spark::Spark::install().await?),
            Self::Benthos => Box::new(benthos::BenthosSink::install().await?),
            Self::Flink => Box::new(flink::Flink::install().await?),
            Self::Connect => Box::new(connect::Connect::install().await?),
        };
        Ok(sink)
    }

    /// Installs all peers.
    pub async fn install_all() -> Installed {
        let mut installed = Installed::default();
        for peer in Self::ALL {
            match peer.install().await {
                Ok(sink) => installed.sinks.push(sink),
                Err(error) => {
                    println!("{peer:?} is not measured: {error}");
                    installed.absent.insert(format!("{peer:?}"), reason(&error));
                }
            }
        }
        installed
    }
}

/// The installed peers.
#[derive(Default)]
pub struct Installed {
    /// The peers as sinks.
    pub sinks: Vec<Box<dyn Sink>>,
    /// Peers that failed to install, with the reason.
    pub absent: BTreeMap<String, String>,
}

/// A peer failed to install or run.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum PeerError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Benthos(#[from] BenthosError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("failed to access {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{what} failed:\n{log}")]
    Install { what: &'static str, log: String },
    #[error("producer failed:\n{0}")]
    Producer(String),
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> PeerError {
    let path = path.to_path_buf();
    |source| PeerError::File { path, source }
}

/// Removes the files of an earlier run.
fn remove_leftovers(folder: &Path) -> Result<(), SinkError> {
    cleanup::remove_folder(folder).map_err(|source| SinkError::File {
        path: folder.to_path_buf(),
        source,
    })
}
