//! Benthos as a peer: built once from its Go module at a pinned version into the target folder, and started with the
//! configuration beside it. Nobody needs it to build or test Affluent.

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

/// It has hundreds of dependencies.
const BUILD_DEADLINE: Duration = Duration::from_secs(30 * 60);
const START_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// The peer could not be had.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum BenthosError {
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Port(#[from] ServerError),
    #[error("build Benthos: {0}")]
    Build(String),
    #[error("Benthos does not listen: {0}")]
    Silent(String),
}

/// A running Benthos. It is killed when this is dropped.
pub struct Benthos {
    /// Where it takes records.
    pub address: SocketAddr,
    child: Child,
    _port: PortLease,
}

impl Benthos {
    /// Builds it if need be, and starts it with `topic` behind it.
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

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    async fn wait_until_listening(&self) -> Result<(), BenthosError> {
        let until = Instant::now() + START_DEADLINE;
        while TcpStream::connect(self.address).await.is_err() {
            if Instant::now() >= until || !self.child.is_running() {
                return Err(BenthosError::Silent(self.child.last_lines(5)));
            }
            sleep(POLL).await;
        }
        Ok(())
    }
}

/// `go install` looks itself whether there is something to do.
pub(crate) async fn build(source: &Path, folder: &Path) -> Result<PathBuf, BenthosError> {
    let target = workspace::target_dir()?.join("peers");
    let child = Program::new("go")
        .args(["install", "-mod=readonly", "."])
        .env("GOBIN", &target)
        .in_folder(source)
        .log_to(folder.join("benthos-build.log"))
        .spawn()?;
    let status = child.wait(BUILD_DEADLINE).await?;
    if status.success() {
        Ok(target.join("benthos"))
    } else {
        Err(BenthosError::Build(child.last_lines(5)))
    }
}
