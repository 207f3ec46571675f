//! Benthos as a peer of the publisher: built once from its Go module at a pinned version.
//!
//! Builds and tests of Affluent do not need it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use testkit::process::{Child, ProcessError, Program};
use testkit::servers::ServerError;
use testkit::servers::ports::PortLease;
use testkit::workspace::{self, WorkspaceError};

/// Timeout for the build, which has hundreds of dependencies.
const BUILD_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Benthos failed to install or run.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum BenthosError {
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Port(#[from] ServerError),
    #[error("failed to build Benthos: {0}")]
    Build(String),
    #[error("Benthos did not start listening: {0}")]
    NotListening(String),
}

/// A running Benthos. Dropping it kills the process.
pub struct BenthosServer {
    /// The address of its HTTP server.
    pub address: SocketAddr,
    child: Child,
    _port: PortLease,
}

impl BenthosServer {
    /// Builds Benthos if necessary and starts it with this topic.
    ///
    /// # Errors
    /// [`BenthosError`].
    pub async fn start(brokers: &str, topic: &str, folder: &Path) -> Result<Self, BenthosError> {
        let source = workspace::root()?.join("crates/bench/peers/benthos");
        let program = build(&source, folder).await?;
        let port = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.port()));
        let child = Program::new(program)
            .arg("-c")
            .arg(source.join("config.yaml"))
            .env("ADDRESS", address.to_string())
            .env("BROKERS", brokers)
            .env("TOPIC", topic)
            .log_to(folder.join("benthos.log"))
            .spawn()?;
        let benthos = Self {
            address,
            child,
            _port: port,
        };
        benthos.wait_until_listening().await?;
        Ok(benthos)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    async fn wait_until_listening(&self) -> Result<(), BenthosError> {
        let until = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(self.address).await.is_err() {
            if Instant::now() >= until || !self.child.is_running() {
                return Err(BenthosError::NotListening(self.child.last_lines(5)));
            }
            sleep(POLL).await;
        }
        Ok(())
    }
}

/// Builds Benthos. `go install` skips the build if nothing has changed.
pub(crate) async fn build(source: &Path, folder: &Path) -> Result<PathBuf, BenthosError> {
    let target = workspace::target_dir()?.join("peers");
    let child = Program::new("go")
        .args(["install", "-mod=readonly", "."])
        .env("GOBIN", &target)
        .in_folder(source)
        .log_to(folder.join("benthos-build.log"))
        .spawn()?;
    let status = child.wait(BUILD_TIMEOUT).await?;
    if status.success() {
        Ok(target.join("benthos"))
    } else {
        Err(BenthosError::Build(child.last_lines(5)))
    }
}
