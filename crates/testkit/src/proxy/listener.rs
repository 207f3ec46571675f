//! Takes connections while the door is open.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::behavior::Behavior;
use super::connection::Connection;
use super::stats::Tally;

/// Whether connections are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    Closed,
}

/// What the proxy's handle and its tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) door: watch::Sender<Door>,
    pub(super) accepted: AtomicU64,
    pub(super) passed: [AtomicU64; 2],
    pub(super) tally: Tally,
}

/// What holds for the connections to come, and those that are open.
#[derive(Debug)]
pub(super) struct State {
    pub(super) target: SocketAddr,
    pub(super) behavior: Behavior,
    pub(super) connections: Vec<Arc<Connection>>,
}

impl Shared {
    pub(super) fn new(target: SocketAddr) -> Self {
        Self {
            state: Mutex::new(State {
                target,
                behavior: Behavior::default(),
                connections: Vec::new(),
            }),
            door: watch::channel(Door::Open).0,
            accepted: AtomicU64::new(0),
            passed: [AtomicU64::new(0), AtomicU64::new(0)],
            tally: Tally::default(),
        }
    }
}

/// Between two attempts to listen again, or to accept when there is no file descriptor left.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs until it is dropped, and its connections with it.
pub(super) async fn run(
    mut listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    is_open: watch::Sender<bool>,
) {
    let mut door = shared.door.subscribe();
    let mut connections = JoinSet::new();
    loop {
        loop {
            tokio::select! {
                () = closed(&mut door) => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((client, from)) => {
                        connections.spawn(serve(client, from, Arc::clone(&shared)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        sleep(PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        is_open.send_replace(false);
        if door.wait_for(|door| *door == Door::Open).await.is_err() {
            return;
        }
        listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => {
                    tracing::warn!(%error, %address, "the proxy can't listen again yet");
                    sleep(PAUSE).await;
                }
            }
        };
        is_open.send_replace(true);
    }
}

/// Resolves when the door closes. Its sender lives as long as the proxy's tasks.
async fn closed(door: &mut watch::Receiver<Door>) {
    drop(door.wait_for(|door| *door == Door::Closed).await);
}

async fn serve(client: TcpStream, from: SocketAddr, shared: Arc<Shared>) {
    let id = shared.accepted.fetch_add(1, Ordering::Relaxed);
    let (connection, target) = {
        let mut state = shared.state();
        let connection = Arc::new(Connection::new(id, from, state.behavior));
        state.connections.push(Arc::clone(&connection));
        (connection, state.target)
    };
    connection.run(client, target, &shared).await;
    shared.state().connections.retain(|open| open.id() != id);
}
