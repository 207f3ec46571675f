//! Others who do the same work, so that a figure of ours means something: each pinned, installed from its registry into
//! the target folder when it is asked for, and set up as its own users would.
//!
//! How their settings were found, and what was looked for in vain, is told in `crates/bench/peers/README.md`. Nobody
//! needs any of them to build or test Affluent.

mod benthos;
pub mod command;
pub mod connect;
pub mod flink;
mod java;
pub mod python;
pub mod rig;
pub mod spark;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use thiserror::Error;

use super::leftovers;
use super::publisher::benthos::BenthosError;
use super::report::reason;
use super::sink::{Sink, SinkError};
use testkit::process::ProcessError;
use testkit::servers::ArtifactError;
use testkit::workspace::WorkspaceError;

/// A peer of the streamer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Spark Structured Streaming with the Cassandra connector: the original's way
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

    /// Installs it if need be, with the settings that its sweep found best.
    ///
    /// # Errors
    /// When its registry does not give it, or it does not build.
    pub async fn install(self) -> Result<Box<dyn Sink>, PeerError> {
        let sink: Box<dyn Sink> = match self {
            Self::Spark => Box::new(spark::Spark::install().await?),
            Self::Benthos => Box::new(benthos::Benthos::install().await?),
            Self::Flink => Box::new(flink::Flink::install().await?),
            Self::Connect => Box::new(connect::Connect::install().await?),
        };
        Ok(sink)
    }

    /// Installs all that can be had, each with its best settings.
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

    /// The settings that its sweep compares, each as a sink with its settings for a name.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub async fn candidates(self) -> Result<Vec<Box<dyn Sink>>, PeerError> {
        Ok(match self {
            Self::Spark => candidates(&spark::Spark::install().await?),
            Self::Benthos => candidates(&benthos::Benthos::install().await?),
            Self::Flink => candidates(&flink::Flink::install().await?),
            Self::Connect => candidates(&connect::Connect::install().await?),
        })
    }
}

/// The peers that could be had.
#[derive(Default)]
pub struct Installed {
    /// Each with its best settings.
    pub sinks: Vec<Box<dyn Sink>>,
    /// The others, and why not.
    pub absent: BTreeMap<String, String>,
}

/// A peer with settings that its sweep varies.
trait Tuned: Sink + Sized + 'static {
    /// What is varied.
    type Settings;

    /// What the sweep compares.
    fn settings() -> Vec<Self::Settings>;

    /// The same peer, set up like that, with its settings for a name.
    fn with(&self, settings: Self::Settings) -> Self;
}

fn candidates<T: Tuned>(peer: &T) -> Vec<Box<dyn Sink>> {
    let sinks = T::settings().into_iter().map(|settings| peer.with(settings));
    sinks.map(|sink| Box::new(sink) as Box<dyn Sink>).collect()
}

/// A peer could not be had.
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
    #[error("cannot use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{what} failed:\n{log}")]
    Install { what: &'static str, log: String },
    #[error("the producer failed:\n{0}")]
    Producer(String),
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> PeerError {
    let path = path.to_path_buf();
    |source| PeerError::File { path, source }
}

/// Removes what an earlier run has left, so that a sink starts fresh.
fn forget(folder: &Path) -> Result<(), SinkError> {
    leftovers::remove_folder(folder).map_err(|source| SinkError::File {
        path: folder.to_path_buf(),
        source,
    })
}
