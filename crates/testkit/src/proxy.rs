//! A TCP proxy that disturbs what goes through it: it holds, swallows, resets, delays, slices and slows, either way, for
//! one connection or for all, while it runs.
//!
//! It knows no protocol. Clients walk around it unless it stands where the server says that it is found (Kafka's
//! advertised listener, Cassandra's rpc address); [`remotes`] tells whom a process is really connected to.

mod behavior;
mod connection;
mod listener;
mod pump;
mod sockets;
mod stats;

pub use behavior::{Behavior, Direction, Fate, Flow};
pub use connection::Connection;
pub use sockets::{locals, remotes};
pub use stats::ProxyStats;

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
use listener::{Door, Shared};

/// The proxy can't do what it is told to.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// No free port.
    #[error(transparent)]
    Port(#[from] ServerError),
    /// The port can't be listened on.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The listener did not open or close in time.
    #[error("the listener on {0} did not open or close in time")]
    Stuck(SocketAddr),
}

/// Opening and closing a listener takes microseconds, unless another process has taken the port.
const DOOR_DEADLINE: Duration = Duration::from_secs(10);

/// A running proxy. Dropped, it and its connections end.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    is_open: watch::Receiver<bool>,
    task: JoinHandle<()>,
    port: Option<PortLease>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and passes everything to `target`.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(target: SocketAddr) -> Result<Self, ProxyError> {
        let port = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.port()));
        let mut proxy = Self::start_at(address, target).await?;
        proxy.port = Some(port);
        Ok(proxy)
    }

    /// Listens on this address, of which the caller knows that it is free: another one of 127.0.0.0/8 with the port of
    /// a proxy that stands.
    ///
    /// # Errors
    /// When it is not free.
    pub async fn start_at(address: SocketAddr, target: SocketAddr) -> Result<Self, ProxyError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ProxyError::Listen { address, source })?;
        let shared = Arc::new(Shared::new(target));
        let (open_sender, is_open) = watch::channel(true);
        let task = tokio::spawn(listener::run(listener, address, Arc::clone(&shared), open_sender));
        Ok(Self {
            address,
            shared,
            is_open,
            task,
            port: None,
        })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How all connections behave from now on, the open ones and the later ones.
    pub fn set(&self, behavior: Behavior) {
        let mut state = self.shared.state();
        state.behavior = behavior;
        for connection in &state.connections {
            connection.set(behavior);
        }
    }

    /// Where later connections go.
    pub fn retarget(&self, target: SocketAddr) {
        self.shared.state().target = target;
    }

    /// Refuses connections: nothing listens any more. The open ones stay.
    ///
    /// # Errors
    /// When the listener does not close in time.
    pub async fn refuse(&self) -> Result<(), ProxyError> {
        self.shared.door.send_replace(Door::Closed);
        self.wait_until(false).await
    }

    /// Takes connections again.
    ///
    /// # Errors
    /// When the port can't be listened on in time.
    pub async fn accept(&self) -> Result<(), ProxyError> {
        self.shared.door.send_replace(Door::Open);
        self.wait_until(true).await
    }

    /// Resets every open connection, on both sides.
    pub fn reset(&self) {
        for connection in self.connections() {
            connection.reset();
        }
    }

    /// The open connections, the oldest first.
    #[must_use]
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.shared.state().connections.clone()
    }

    /// How many connections there have been.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// How many bytes have been passed on in that direction, by all connections there have been.
    #[must_use]
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.passed[direction.index()].load(Ordering::Relaxed)
    }

    /// What has been done to what went through, by all connections there have been.
    #[must_use]
    pub fn stats(&self) -> ProxyStats {
        self.shared.tally.read()
    }

    async fn wait_until(&self, open: bool) -> Result<(), ProxyError> {
        let mut is_open = self.is_open.clone();
        match timeout(DOOR_DEADLINE, is_open.wait_for(|is| *is == open)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ProxyError::Stuck(self.address)),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, listener::State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
