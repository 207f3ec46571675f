//! The nodes of the local data centre, and which of them coordinates a row.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cdrs_tokio::consistency::Consistency;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cassandra::placement::{NodeIndex, Placement};
use crate::cassandra::session::Session;
use crate::cassandra::topology::Topology;
use crate::cassandra::writer::adaptive_concurrency::AdaptiveConcurrency;

/// A node of the local data centre with its session and its limits.
pub struct Node {
    id: Uuid,
    state: Mutex<NodeState>,
    /// The limit of the statements in flight to this node.
    pub concurrency: AdaptiveConcurrency,
    /// Batches that wait for a permit or a reply.
    assigned: AtomicUsize,
    /// Cancelled when the node has left the cluster.
    removed: CancellationToken,
}

#[derive(Default)]
struct NodeState {
    /// The address that other nodes know. `None`: only this node has been queried.
    advertised: Option<SocketAddr>,
    /// The address at which it was reached through a contact point.
    contact: Option<SocketAddr>,
    session: Option<Arc<Session>>,
}

impl Node {
    fn new(id: Uuid, advertised: Option<SocketAddr>, max_in_flight: usize) -> Self {
        Self {
            id,
            state: Mutex::new(NodeState {
                advertised,
                ..NodeState::default()
            }),
            concurrency: AdaptiveConcurrency::new(max_in_flight),
            assigned: AtomicUsize::new(0),
            removed: CancellationToken::new(),
        }
    }

    /// Its `host_id`.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The addresses to connect to. A contact point comes first, because it may be a proxy.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let NodeState {
            contact, advertised, ..
        } = *self.state();
        let advertised = advertised.filter(|address| Some(*address) != contact);
        contact.into_iter().chain(advertised)
    }

    /// Whether it still has the address that another node reports. `None`: it is not reported.
    fn is_at(&self, reported: Option<SocketAddr>) -> bool {
        let mut state = self.state();
        let Some(reported) = reported else {
            return true;
        };
        *state.advertised.get_or_insert(reported) == reported
    }

    /// Its session, unless that is poisoned.
    pub fn session(&self) -> Option<Arc<Session>> {
        let mut state = self.state();
        if state
            .session
            .as_ref()
            .is_some_and(|session| session.is_poisoned())
        {
            state.session = None;
        }
        state.session.clone()
    }

    /// Uses a new session, unless there is one already.
    pub(super) fn connected(&self, session: Arc<Session>) {
        if self.session().is_none() {
            self.state().session = Some(session);
        }
    }

    /// Uses a session that was built through a contact point.
    fn reached_at(&self, session: &Arc<Session>) {
        self.state().contact = Some(session.address());
        self.connected(Arc::clone(session));
    }

    /// Resolves once the node has left the cluster.
    pub(super) async fn removed(&self) {
        self.removed.cancelled().await;
    }

    /// The batches that wait for a permit or a reply.
    pub fn assigned(&self) -> usize {
        self.assigned.load(Ordering::Relaxed)
    }

    /// Counts a batch as assigned until the guard is dropped.
    pub fn assign(self: &Arc<Self>) -> CoordinatorLoad {
        self.assigned.fetch_add(1, Ordering::Relaxed);
        CoordinatorLoad(Arc::clone(self))
    }

    fn state(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that is assigned to a node.
pub struct CoordinatorLoad(Arc<Node>);

impl CoordinatorLoad {
    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.0
    }
}

impl Drop for CoordinatorLoad {
    fn drop(&mut self) {
        self.0.assigned.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The local nodes and the placement of the rows on them, as of one moment.
pub struct Cluster {
    topology: Topology,
    nodes: Vec<Arc<Node>>,
    placement: Option<Placement>,
}

impl Cluster {
    /// Builds the cluster from what a node knows. Nodes of `previous` that have not moved are kept with their sessions; those
    /// that have left are released.
    pub(super) fn new(
        topology: Topology,
        datacenter: &str,
        max_in_flight: usize,
        previous: Option<&Self>,
    ) -> Self {
        let known = |id: Uuid| previous.and_then(|cluster| cluster.node(id));
        let local = topology.ring.iter().filter(|node| node.datacenter == datacenter);
        let nodes: Vec<_> = local
            .map(|node| {
                let advertised = topology.addresses.get(&node.id).copied();
                match known(node.id) {
                    Some(known) if known.is_at(advertised) => Arc::clone(known),
                    _ => Arc::new(Node::new(node.id, advertised, max_in_flight)),
                }
            })
            .collect();
        let left = previous.into_iter().flat_map(|cluster| &cluster.nodes);
        for node in left.filter(|node| !nodes.iter().any(|kept| Arc::ptr_eq(kept, node))) {
            node.removed.cancel();
        }
        let placement = topology
            .replication
            .clone()
            .and_then(|replication| Placement::new(&topology.ring, datacenter, replication));
        Self {
            topology,
            nodes,
            placement,
        }
    }

    /// What the cluster was built from.
    pub(super) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The local nodes, numbered as in the placement.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Where rows are. `None`: unknown.
    pub fn placement(&self) -> Option<&Placement> {
        self.placement.as_ref()
    }

    /// Gives a session that was built through a contact point to its node. Returns whether the node is in the cluster.
    pub(super) fn reached(&self, session: &Arc<Session>) -> bool {
        let node = self.node(session.node());
        node.map(|node| node.reached_at(session)).is_some()
    }

    fn node(&self, id: Uuid) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The sessions of the nodes at this moment; `None` for a node that is not connected.
    pub fn sessions(&self) -> Vec<Option<Arc<Session>>> {
        self.nodes.iter().map(|node| node.session()).collect()
    }

    /// Why some rows can't be written at `consistency`, as far as the sessions show. `None` also if no node is connected:
    /// then the failed attempts to connect are the reason.
    pub(super) fn unreachable(&self, consistency: Consistency) -> Option<String> {
        let reachable: Vec<_> = self.nodes.iter().map(|node| node.session().is_some()).collect();
        if !reachable.contains(&true) {
            return None;
        }
        let (ranges, unreachable) = self.placement()?.unreachable_ranges(consistency, &reachable);
        let lost = self
            .nodes
            .iter()
            .zip(&reachable)
            .filter(|(_, reachable)| !**reachable);
        let lost = lost.filter_map(|(node, _)| node.addresses().next());
        (unreachable > 0).then(|| {
            let lost: Vec<_> = lost.map(|address| address.to_string()).collect();
            format!(
                "{unreachable} of {ranges} token ranges lack the replicas for cassandra.consistency: failed to connect to {}",
                lost.join(", ")
            )
        })
    }
}

/// Chooses the node that coordinates a row: the first of its `replicas`, in the order of the ring, that is connected.
///
/// The primary replica keeps the rows of a micro-batch in the fewest groups, and spreads them as the tokens are spread.
pub fn coordinator(replicas: &[NodeIndex], sessions: &[Option<Arc<Session>>]) -> Option<NodeIndex> {
    let mut replicas = replicas.iter().copied();
    replicas.find(|node| sessions[usize::from(*node)].is_some())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cassandra::placement::RingNode;
    use crate::cassandra::placement::replication::Replication;

    const LOCAL: &str = "here";

    /// Local nodes, each with the port that is reported.
    fn topology(nodes: &[(u8, Option<u16>)]) -> Topology {
        let ring = nodes.iter().map(|(id, _)| RingNode {
            id: Uuid::from_u128((*id).into()),
            datacenter: LOCAL.to_owned(),
            rack: "rack".to_owned(),
            tokens: vec![(*id).into()],
        });
        let addresses = nodes.iter().filter_map(|(id, port)| {
            let address = SocketAddr::from(([127, 0, 0, *id], (*port)?));
            Some((Uuid::from_u128((*id).into()), address))
        });
        Topology {
            ring: ring.collect(),
            addresses: addresses.collect(),
            replication: Some(Replication::NetworkTopology(BTreeMap::from([(
                LOCAL.to_owned(),
                1,
            )]))),
        }
    }

    fn cluster(nodes: &[(u8, Option<u16>)], previous: Option<&Cluster>) -> Cluster {
        Cluster::new(topology(nodes), LOCAL, 8, previous)
    }

    #[test]
    fn node_is_kept_while_others_join_and_leave() {
        // The first topology is node 1's own.
        let first = cluster(&[(1, None), (2, Some(9042))], None);
        let second = cluster(&[(1, Some(9042)), (3, Some(9042))], Some(&first));
        assert!(Arc::ptr_eq(&first.nodes[0], &second.nodes[0]));
        assert!(!first.nodes[0].removed.is_cancelled());
        assert!(first.nodes[1].removed.is_cancelled());
        assert_eq!(second.nodes[1].id(), Uuid::from_u128(3));
        assert_eq!(second.placement().unwrap().replicas(0), [0]);
    }

    #[test]
    fn rows_go_to_the_next_replica_while_the_first_is_lost() {
        let cluster = cluster(&[(1, Some(9042)), (2, Some(9042)), (3, Some(9042))], None);
        assert_eq!(coordinator(&[1, 2], &cluster.sessions()), None);
        let [first, _] = [1, 2].map(|node| {
            let session = Session::without_connections();
            cluster.nodes[node].connected(Arc::clone(&session));
            session
        });
        assert_eq!(coordinator(&[1, 2], &cluster.sessions()), Some(1));
        assert_eq!(coordinator(&[0, 2], &cluster.sessions()), Some(2));
        first.poison();
        assert_eq!(coordinator(&[1, 2], &cluster.sessions()), Some(2));
        assert!(cluster.unreachable(Consistency::LocalOne).is_some());
        cluster.nodes[1].connected(Session::without_connections());
        assert_eq!(coordinator(&[1, 2], &cluster.sessions()), Some(1));
    }

    #[test]
    fn node_at_a_new_address_is_another_node() {
        let first = cluster(&[(1, Some(9042))], None);
        let second = cluster(&[(1, Some(9043))], Some(&first));
        assert!(first.nodes[0].removed.is_cancelled());
        let address = SocketAddr::from(([127, 0, 0, 1], 9043));
        assert_eq!(second.nodes[0].addresses().collect::<Vec<_>>(), [address]);
    }

    #[test]
    fn keyspace_created_later_places_the_rows() {
        let without = Topology {
            replication: None,
            ..topology(&[(1, None)])
        };
        let first = Cluster::new(without, LOCAL, 8, None);
        assert!(first.placement().is_none());
        let second = cluster(&[(1, None)], Some(&first));
        assert!(second.placement().unwrap().is_shared());
        assert!(Arc::ptr_eq(&first.nodes[0], &second.nodes[0]));
    }
}
