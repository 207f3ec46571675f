//! Benthos as an HTTP server in front of Kafka, with the configuration in `peers/benthos/config.yaml`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::process::{Child, Program};
use testkit::servers::ports::PortLease;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::peers::benthos::{build, source_folder};

const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running Benthos, which is killed when this is dropped.
pub(super) struct BenthosServer {
    pub(super) address: SocketAddr,
    child: Child,
    _port: PortLease,
}

impl BenthosServer {
    /// Builds it unless it is built, and starts it in front of `topic`.
    pub(super) async fn start(brokers: &str, topic: &str, folder: &Path) -> Result<Self> {
        let source = source_folder()?;
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
        let server = Self {
            address,
            child,
            _port: port,
        };
        server.wait_until_listening().await?;
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    async fn wait_until_listening(&self) -> Result<()> {
        let until = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(self.address).await.is_err() {
            ensure!(
                Instant::now() < until && self.child.is_running(),
                "failed to start Benthos: {}",
                self.child.last_lines(5)
            );
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}
