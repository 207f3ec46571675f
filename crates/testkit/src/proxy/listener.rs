//! Accepts connections while the proxy listens.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::behavior::Behavior;
use super::connection::ProxiedConnection;
use super::stats::Counters;
use super::version_limit::VersionLimit;

/// State shared by the proxy's handle and its tasks.
#[derive(Debug)]
pub(super) struct ProxyShared {
    pub(super) state: Mutex<State>,
    /// Whether the listener should be open.
    pub(super) listens: watch::Sender<bool>,
    pub(super) accepted: AtomicU64,
    pub(super) counters: Arc<Counters>,
}

/// The settings of future connections, and the open connections.
#[derive(Debug)]
pub(super) struct State {
    pub(super) target: SocketAddr,
    pub(super) behavior: Behavior,
    pub(super) version_limits: &'static [VersionLimit],
    pub(super) connections: Vec<Arc<ProxiedConnection>>,
}

impl ProxyShared {
    pub(super) fn new(target: SocketAddr) -> Self {
        Self {
            state: Mutex::new(State {
                target,
                behavior: Behavior::default(),
                version_limits: &[],
                connections: Vec::new(),
            }),
            listens: watch::channel(true).0,
            accepted: AtomicU64::new(0),
            counters: Arc::default(),
        }
    }
}

/// Between two attempts to bind, or to accept without a free file descriptor.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Runs with its connections until it is dropped.
pub(super) async fn run(
    mut listener: TcpListener,
    address: SocketAddr,
    shared: Arc<ProxyShared>,
    is_listening: watch::Sender<bool>,
) {
    let mut listens = shared.listens.subscribe();
    let mut connections = JoinSet::new();
    loop {
        loop {
            tokio::select! {
                () = closing(&mut listens) => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((client, from)) => {
                        connections.spawn(serve(client, from, Arc::clone(&shared)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a connection");
                        sleep(RETRY_DELAY).await;
                    }
                },
            }
        }
        drop(listener);
        is_listening.send_replace(false);
        if listens.wait_for(|listens| *listens).await.is_err() {
            return;
        }
        listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => {
                    tracing::warn!(%error, %address, "failed to listen again");
                    sleep(RETRY_DELAY).await;
                }
            }
        };
        is_listening.send_replace(true);
    }
}

/// Resolves when the listener should close. Its sender lives as long as the proxy's tasks.
async fn closing(listens: &mut watch::Receiver<bool>) {
    drop(listens.wait_for(|listens| !listens).await);
}

async fn serve(client: TcpStream, from: SocketAddr, shared: Arc<ProxyShared>) {
    let id = shared.accepted.fetch_add(1, Ordering::Relaxed);
    let (connection, target) = {
        let mut state = shared.state();
        let connection = Arc::new(ProxiedConnection::new(
            id,
            from,
            state.behavior,
            state.version_limits,
        ));
        state.connections.push(Arc::clone(&connection));
        (connection, state.target)
    };
    connection.run(client, target, &shared.counters).await;
    shared.state().connections.retain(|open| open.id() != id);
}
