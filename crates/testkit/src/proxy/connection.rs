//! One connection: a socket to the client, a socket to the server, and a pump for each direction.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::behavior::{Behavior, Direction};
use super::pump::Pump;
use super::stats::Counters;
use super::version_limit::VersionLimit;

/// A server on loopback accepts at once, or its backlog is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An open connection.
#[derive(Debug)]
pub struct ProxiedConnection {
    id: u64,
    client: SocketAddr,
    behavior: watch::Sender<Behavior>,
    version_limits: &'static [VersionLimit],
    reset: CancellationToken,
}

impl ProxiedConnection {
    pub(super) fn new(
        id: u64,
        client: SocketAddr,
        behavior: Behavior,
        version_limits: &'static [VersionLimit],
    ) -> Self {
        Self {
            id,
            client,
            behavior: watch::channel(behavior).0,
            version_limits,
            reset: CancellationToken::new(),
        }
    }

    /// Counts from 0 over all connections of the proxy.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client's own address.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Sets the behavior of this connection, until the next call here or on the proxy.
    pub fn set(&self, behavior: Behavior) {
        self.behavior.send_replace(behavior);
    }

    /// Resets it on both sides.
    pub fn reset(&self) {
        self.reset.cancel();
    }

    /// Forwards bytes until both sides have closed or it is reset.
    pub(super) async fn run(&self, mut client: TcpStream, target: SocketAddr, counters: &Arc<Counters>) {
        let mut server = match timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
            Ok(Ok(server)) => server,
            failed => {
                tracing::debug!(%target, ?failed, "failed to connect to the target");
                return end_with_reset(&client);
            }
        };
        for socket in [&client, &server] {
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%error, "failed to set TCP_NODELAY");
            }
        }
        let was_reset = {
            let (client_reads, client_writes) = client.split();
            let (server_reads, server_writes) = server.split();
            let to_server = self.pump(Direction::ToServer, counters);
            let to_client = self.pump(Direction::ToClient, counters);
            tokio::select! {
                biased;
                () = self.reset.cancelled() => true,
                _ = async {
                    tokio::join!(
                        to_server.run(client_reads, server_writes),
                        to_client.run(server_reads, client_writes),
                    )
                } => false,
            }
        };
        if was_reset {
            end_with_reset(&client);
            end_with_reset(&server);
        }
    }

    fn pump(&self, direction: Direction, counters: &Arc<Counters>) -> Pump {
        Pump {
            direction,
            seed: self.id,
            behavior: self.behavior.subscribe(),
            version_limits: match direction {
                Direction::ToServer => &[],
                Direction::ToClient => self.version_limits,
            },
            reset: self.reset.clone(),
            counters: Arc::clone(counters),
        }
    }
}

/// Makes the drop of the socket send a reset.
fn end_with_reset(socket: &TcpStream) {
    if let Err(error) = socket.set_zero_linger() {
        tracing::warn!(%error, "failed to reset a connection");
    }
}
