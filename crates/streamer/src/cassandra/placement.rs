//! Where the replicas of a row are: the token ring of the cluster and the replication of the keyspace.
//!
//! Pure. Knows no address and no connection.

pub mod replication;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use cdrs_tokio::cluster::Murmur3Token;
use cdrs_tokio::consistency::Consistency;
use uuid::Uuid;

use crate::cassandra::placement::replication::Replication;

/// A node with its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingNode {
    /// `host_id`, which a node keeps when its address changes.
    pub id: Uuid,
    /// The data centre.
    pub datacenter: String,
    /// The rack.
    pub rack: String,
    /// The tokens, in any order.
    pub tokens: Vec<i64>,
}

/// The index of a node among the nodes of the local data centre.
pub type NodeIndex = u16;

/// The index of a replica set.
pub type SetIndex = u32;

/// The local replicas of every token range.
///
/// The ranges share their replica sets. 30 nodes with 256 tokens each take about 250 KiB.
#[derive(Debug, PartialEq, Eq)]
pub struct Placement {
    /// The ends of the token ranges, ascending.
    tokens: Vec<i64>,
    /// The replica set of each range.
    ranges: Vec<SetIndex>,
    /// Each in the order of preference, the primary replica first.
    sets: Vec<Box<[NodeIndex]>>,
    replication: Replication,
    local: String,
    /// Every local node holds every row.
    shared: bool,
}

impl Placement {
    /// Computes the replicas as Cassandra does. The local nodes are numbered in the order of `ring`.
    ///
    /// Returns `None` for a ring without tokens, and for more replica sets or nodes than fit into an index.
    pub fn new(ring: &[RingNode], local: &str, replication: Replication) -> Option<Self> {
        let is_local = |node: &RingNode| node.datacenter == local;
        let local_nodes = ring.iter().filter(|node| is_local(node)).count();
        NodeIndex::try_from(local_nodes).ok()?;
        // Nodes of other data centres change no local replica of NetworkTopologyStrategy.
        let counts = |node: &RingNode| matches!(replication, Replication::Simple(_)) || is_local(node);
        let mut vnodes = Vec::new();
        let mut index: NodeIndex = 0;
        for node in ring {
            let number = is_local(node).then_some(index);
            index += NodeIndex::from(is_local(node));
            if counts(node) {
                let id = node.id;
                vnodes.extend(node.tokens.iter().map(|token| Vnode {
                    token: *token,
                    id,
                    rack: &node.rack,
                    index: number,
                }));
            }
        }
        vnodes.sort_unstable_by_key(|vnode| vnode.token);
        if vnodes.is_empty() {
            return None;
        }
        let walk = Walk::new(&vnodes, &replication, local);
        let mut known: HashMap<Box<[NodeIndex]>, SetIndex> = HashMap::new();
        let mut sets = Vec::new();
        let mut ranges = Vec::with_capacity(vnodes.len());
        for start in 0..vnodes.len() {
            let replicas = walk.replicas(start);
            let set = match known.get(&replicas) {
                Some(set) => *set,
                None => {
                    let set = SetIndex::try_from(sets.len()).ok()?;
                    sets.push(replicas.clone());
                    known.insert(replicas, set);
                    set
                }
            };
            ranges.push(set);
        }
        Some(Self {
            tokens: vnodes.iter().map(|vnode| vnode.token).collect(),
            ranges,
            shared: sets.iter().all(|set| set.len() == local_nodes),
            sets,
            replication,
            local: local.to_owned(),
        })
    }

    /// Returns the replica set of a row. `partition_key` is the value of its only partition key column.
    pub fn replica_set(&self, partition_key: &[u8]) -> SetIndex {
        self.set_of_token(Murmur3Token::generate(partition_key).value)
    }

    fn set_of_token(&self, token: i64) -> SetIndex {
        // A range ends at its token. Behind the last one the ring begins again.
        let index = self.tokens.partition_point(|end| *end < token);
        self.ranges[if index == self.tokens.len() { 0 } else { index }]
    }

    /// Returns the local replicas, the primary one first.
    pub fn replicas(&self, set: SetIndex) -> &[NodeIndex] {
        &self.sets[set as usize]
    }

    /// Whether every local node holds every row, so that any rows may share a batch.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// The number of token ranges, and of those whose rows can't be written at `consistency` while only some local nodes
    /// are `reachable`. The nodes of other data centres count as reachable.
    pub fn unreachable_ranges(&self, consistency: Consistency, reachable: &[bool]) -> (usize, usize) {
        let lacks = |set: &[NodeIndex]| {
            let up = set.iter().filter(|node| reachable[usize::from(**node)]).count();
            up < self
                .replication
                .required_local(consistency, &self.local, set.len())
        };
        let lacking: Vec<_> = self.sets.iter().map(|set| lacks(set)).collect();
        let ranges = self.ranges.iter();
        let unreachable = ranges.filter(|set| lacking[**set as usize]).count();
        (self.ranges.len(), unreachable)
    }
}

/// A token with its node.
struct Vnode<'a> {
    token: i64,
    id: Uuid,
    rack: &'a str,
    /// `None`: the node is in another data centre.
    index: Option<NodeIndex>,
}

/// Walks the ring clockwise and collects replicas.
struct Walk<'a> {
    vnodes: &'a [Vnode<'a>],
    /// The replicas to find: the replication factor, or fewer if there are fewer nodes.
    count: usize,
    /// How many replicas may be in a rack that already has one.
    rack_repeats: Option<usize>,
}

impl<'a> Walk<'a> {
    fn new(vnodes: &'a [Vnode<'a>], replication: &Replication, local: &str) -> Self {
        let nodes: HashSet<_> = vnodes.iter().map(|vnode| vnode.id).collect();
        let racks: HashSet<_> = vnodes.iter().map(|vnode| vnode.rack).collect();
        let factor = replication.local_factor(local);
        let by_rack = matches!(replication, Replication::NetworkTopology(_));
        Self {
            vnodes,
            count: factor.min(nodes.len()),
            rack_repeats: by_rack.then(|| factor.saturating_sub(racks.len())),
        }
    }

    fn replicas(&self, start: usize) -> Box<[NodeIndex]> {
        let (behind, ahead) = self.vnodes.split_at(start);
        let mut found: Vec<&Vnode<'_>> = Vec::with_capacity(self.count);
        let mut repeats = self.rack_repeats;
        for vnode in ahead.iter().chain(behind) {
            if found.len() == self.count {
                break;
            }
            if found.iter().any(|other| other.id == vnode.id) {
                continue;
            }
            if let Some(left) = &mut repeats
                && found.iter().any(|other| other.rack == vnode.rack)
            {
                let Some(fewer) = left.checked_sub(1) else {
                    continue;
                };
                *left = fewer;
            }
            found.push(vnode);
        }
        found.iter().filter_map(|vnode| vnode.index).collect()
    }
}
