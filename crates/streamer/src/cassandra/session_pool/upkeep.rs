//! Keeps a session with every local node, and the topology up to date.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};

use crate::cassandra::cluster::Node;
use crate::cassandra::session::Session;
use crate::cassandra::session_pool::shared::SharedSessions;

/// How often the topology is read. A placement that is older costs one hop between nodes, never a row.
const TOPOLOGY_INTERVAL: Duration = Duration::from_secs(5);
/// How often an idle session proves that its node responds.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<SharedSessions>) {
    tokio::join!(follow_topology(&shared), follow_nodes(&shared));
}

/// Reads the topology from the first node that is connected, so that consecutive results have one source.
async fn follow_topology(shared: &SharedSessions) {
    loop {
        sleep(TOPOLOGY_INTERVAL).await;
        let Some(cluster) = shared.cluster() else {
            continue;
        };
        if let Some(session) = cluster.nodes().iter().find_map(|node| node.session())
            && let Err(error) = shared.refresh(&session).await
        {
            tracing::debug!(%error, node = %session.address(), "failed to read the nodes of cassandra");
        }
        if let Some(cluster) = shared.cluster() {
            let consistency = shared.settings.consistency.into();
            shared
                .readiness
                .replicas_reachable(cluster.unreachable(consistency));
        }
    }
}

/// Keeps a session with each node of the cluster.
async fn follow_nodes(shared: &SharedSessions) {
    let mut clusters = shared.cluster.subscribe();
    clusters.mark_changed();
    let mut kept: Vec<Arc<Node>> = Vec::new();
    let mut keepers: FuturesUnordered<BoxFuture<'_, Arc<Node>>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            // The sender is in `shared`.
            _ = clusters.changed() => {
                let cluster = clusters.borrow_and_update().clone();
                for node in cluster.iter().flat_map(|cluster| cluster.nodes()) {
                    if !kept.iter().any(|kept| Arc::ptr_eq(kept, node)) {
                        kept.push(Arc::clone(node));
                        keepers.push(keep(shared, Arc::clone(node)).boxed());
                    }
                }
            }
            Some(removed) = keepers.next() => {
                kept.retain(|kept| !Arc::ptr_eq(kept, &removed));
            }
        }
    }
}

/// Keeps a session with one node until it leaves the cluster.
async fn keep(shared: &SharedSessions, node: Arc<Node>) -> Arc<Node> {
    tokio::select! {
        () = node.removed() => {}
        () = keep_connected(shared, &node) => {}
    }
    node
}

async fn keep_connected(shared: &SharedSessions, node: &Node) {
    let mut lost = false;
    loop {
        let mut delays = shared.settings.backoff.delays();
        let session = loop {
            if let Some(session) = node.session() {
                break session;
            }
            match connect(shared, node).await {
                Ok(session) => {
                    node.connected(Arc::new(session));
                    shared.connected.notify_waiters();
                }
                Err(error) => {
                    if !std::mem::replace(&mut lost, true) {
                        tracing::warn!(node = %node.id(), error, "failed to connect to a node of cassandra");
                    }
                    sleep(delays.next().unwrap_or(PING_INTERVAL)).await;
                }
            }
        };
        if std::mem::take(&mut lost) {
            tracing::info!(node = %node.id(), address = %session.address(), "node of cassandra connected");
        }
        watch(node, &session).await;
        tracing::warn!(node = %node.id(), address = %session.address(), "session with a node of cassandra lost");
        // What was in flight is sent again. As much at once could time out again, for ever.
        node.concurrency.on_overload();
        lost = true;
    }
}

/// Returns once the session is poisoned. A node that does not respond poisons it.
async fn watch(node: &Node, session: &Session) {
    while !session.is_poisoned() {
        let is_whole = timeout(PING_INTERVAL, session.poisoned()).await.is_err();
        // Batches have the same timeout.
        if is_whole && node.assigned() == 0 {
            // Any error but a lost session is a response.
            let _ = session
                .query_node("SELECT key FROM system.local", Vec::new())
                .await;
        }
    }
}

/// Connects to the node, and makes sure that the address has not passed to another one.
async fn connect(shared: &SharedSessions, node: &Node) -> Result<Session, String> {
    let config = shared.connection_config();
    let config = config.map_err(|error| service::process::chain(&error))?;
    let mut reason = "its address is unknown".to_owned();
    for address in node.addresses() {
        let within = 2 * shared.settings.connect_timeout;
        match timeout(within, Session::connect(&shared.settings, &config, address)).await {
            Ok(Ok(session)) if session.node() == node.id() => return Ok(session),
            Ok(Ok(_)) => reason = format!("{address} is another node"),
            Ok(Err(error)) => reason = error,
            Err(_) => reason = format!("{address}: no session within {} ms", within.as_millis()),
        }
    }
    Err(reason)
}
