//! A TCP proxy that injects network faults: it holds, drops, resets, delays, slices or throttles the bytes of one
//! connection or of all, in either direction, while it runs.
//!
//! It knows no protocol, except that it can [limit](Proxy::limit_versions) the versions that a Kafka broker offers.
//! Clients bypass it unless it has the address that the server advertises (Kafka's advertised listener, Cassandra's rpc
//! address). [`remote_addresses`] shows the peers of a process.

mod behavior;
mod connection;
mod listener;
mod pump;
mod sockets;
mod stats;
mod version_limit;

pub use behavior::{Action, Behavior, Direction, Flow};
pub use connection::ProxiedConnection;
pub use sockets::{local_addresses, remote_addresses};
pub use stats::ProxyStats;
pub use version_limit::{VersionLimit, WITHOUT_TOPIC_IDS};

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::servers::ServerError;
use crate::servers::ports::PortLease;
use listener::ProxyShared;

/// Why an operation on a proxy failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum ProxyError {
    #[error(transparent)]
    Port(#[from] ServerError),
    #[error("failed to listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the listener on {0} did not open or close in time")]
    Timeout(SocketAddr),
}

/// Opening and closing a listener takes microseconds, unless another process has taken the port.
const LISTENER_TIMEOUT: Duration = Duration::from_secs(10);

/// A running proxy. Dropping it closes it and its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<ProxyShared>,
    is_listening: watch::Receiver<bool>,
    task: JoinHandle<()>,
    port: Option<PortLease>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Result<Self, ProxyError> {
        let port = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.port()));
        let mut proxy = Self::start_at(address, target).await?;
        proxy.port = Some(port);
        Ok(proxy)
    }

    /// Listens on an address that the caller knows to be free, such as another one of 127.0.0.0/8 with the port of a
    /// running proxy.
    pub async fn start_at(address: SocketAddr, target: SocketAddr) -> Result<Self, ProxyError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ProxyError::Listen { address, source })?;
        let shared = Arc::new(ProxyShared::new(target));
        let (sender, is_listening) = watch::channel(true);
        let task = tokio::spawn(listener::run(listener, address, Arc::clone(&shared), sender));
        Ok(Self {
            address,
            shared,
            is_listening,
            task,
            port: None,
        })
    }

    /// The address for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the behavior of all open and future connections.
    pub fn set(&self, behavior: Behavior) {
        let mut state = self.shared.state();
        state.behavior = behavior;
        for connection in &state.connections {
            connection.set(behavior);
        }
    }

    /// Sets the target of future connections.
    pub fn retarget(&self, target: SocketAddr) {
        self.shared.state().target = target;
    }

    /// Limits the versions of Kafka's protocol on future connections. Without limits the broker's own apply.
    pub fn limit_versions(&self, limits: &'static [VersionLimit]) {
        self.shared.state().version_limits = limits;
    }

    /// Closes the listener, so that new connections are refused. Open connections stay.
    pub async fn refuse(&self) -> Result<(), ProxyError> {
        self.listen(false).await
    }

    /// Opens the listener again.
    pub async fn accept(&self) -> Result<(), ProxyError> {
        self.listen(true).await
    }

    /// Resets every open connection on both sides.
    pub fn reset(&self) {
        for connection in self.connections() {
            connection.reset();
        }
    }

    /// The open connections, oldest first.
    pub fn connections(&self) -> Vec<Arc<ProxiedConnection>> {
        self.shared.state().connections.clone()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Bytes forwarded in that direction so far, by all connections.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.counters.passed[direction.index()].load(Ordering::Relaxed)
    }

    /// Counts of the faults injected so far, by all connections.
    pub fn stats(&self) -> ProxyStats {
        self.shared.counters.read()
    }

    async fn listen(&self, listens: bool) -> Result<(), ProxyError> {
        self.shared.listens.send_replace(listens);
        let mut is_listening = self.is_listening.clone();
        match timeout(LISTENER_TIMEOUT, is_listening.wait_for(|is| *is == listens)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ProxyError::Timeout(self.address)),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ProxyShared {
    fn state(&self) -> std::sync::MutexGuard<'_, listener::State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
