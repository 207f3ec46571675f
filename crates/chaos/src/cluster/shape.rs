//! How many servers a cluster has, and where.

use clap::ValueEnum;
use testkit::servers::CassandraOptions;

use crate::scenario::fault::ServerKind;

/// Index of the node with the services' role, where they have one. The superuser is on the first.
pub(crate) const ROLE_NODE: usize = 1;

/// The most replicas that a record or a row has in one data centre.
const MAX_REPLICAS: usize = 3;

/// Servers of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum ClusterShape {
    /// One broker and one node: losing one loses all.
    #[default]
    Single,
    /// The same, with the broker's log on a small disk.
    #[value(skip)]
    SmallDisk,
    /// Three of each, with replication factor 3.
    Three,
    /// Three brokers, of which each partition of the topic is on two. One replica may acknowledge a record alone, and one
    /// that lacks records may become the leader.
    ThreeBrokers,
    /// Three nodes in the services' data centre and one in another.
    TwoDataCenters,
    /// Three nodes with permissions. The services' role has one replica, as by default.
    Authorization,
    /// Six nodes with replication factor 3, and a seventh that can be added.
    SixNodes,
}

impl ClusterShape {
    /// Number of Kafka brokers.
    pub(crate) fn brokers(self) -> usize {
        match self {
            Self::Three | Self::ThreeBrokers => 3,
            Self::Single | Self::SmallDisk | Self::TwoDataCenters | Self::Authorization | Self::SixNodes => 1,
        }
    }

    /// Number of Cassandra nodes in the services' data centre, the first of the cluster.
    pub(crate) fn local_nodes(self) -> usize {
        match self {
            Self::Single | Self::SmallDisk | Self::ThreeBrokers => 1,
            Self::Three | Self::TwoDataCenters | Self::Authorization => 3,
            Self::SixNodes => 6,
        }
    }

    /// Number of Cassandra nodes.
    pub(crate) fn nodes(self) -> usize {
        self.local_nodes() + usize::from(self == Self::TwoDataCenters)
    }

    /// Number of servers of this kind that the services use.
    pub(crate) fn servers(self, kind: ServerKind) -> usize {
        match kind {
            ServerKind::Kafka => self.brokers(),
            ServerKind::Cassandra => self.local_nodes(),
        }
    }

    /// Whether the pipeline stops without this server.
    pub(crate) fn depends_on(self, kind: ServerKind, index: usize) -> bool {
        let has_role = self == Self::Authorization && kind == ServerKind::Cassandra && index == ROLE_NODE;
        has_role || self.servers(kind) == 1
    }

    /// Replicas of the topic.
    pub(crate) fn topic_replicas(self) -> usize {
        match self {
            Self::ThreeBrokers => 2,
            shape => shape.brokers(),
        }
    }

    /// Replicas that must be in sync for a write to the topic.
    pub(crate) fn min_in_sync(self) -> usize {
        match self {
            Self::ThreeBrokers => 1,
            shape => shape.brokers().div_ceil(2),
        }
    }

    /// The replication of the keyspace.
    pub(crate) fn keyspace_replication(self) -> String {
        let local = self.local_nodes().min(MAX_REPLICAS);
        let replicas = match self {
            Self::TwoDataCenters => format!("'datacenter1': {local}, 'datacenter2': 1"),
            _ => format!("'replication_factor': {local}"),
        };
        format!("{{'class': 'NetworkTopologyStrategy', {replicas}}}")
    }

    /// Whether a partition loses its quorum when both servers are down.
    pub(crate) fn share_quorum(self, kind: ServerKind, one: usize, other: usize) -> bool {
        let servers = self.servers(kind);
        if one == other || one.max(other) >= servers {
            return false;
        }
        // A row is on its node and on the next ones of the ring, and nodes have their order.
        let apart = one.abs_diff(other);
        apart.min(servers - apart) < MAX_REPLICAS
    }

    /// Options of its Cassandra nodes. A killed node keeps every acknowledged write.
    pub(crate) fn cassandra(self) -> CassandraOptions {
        let options = match self {
            Self::TwoDataCenters => CassandraOptions::two_datacenters(self.local_nodes(), 1),
            Self::Authorization => CassandraOptions::with_login(),
            _ => CassandraOptions::default(),
        };
        CassandraOptions {
            nodes: self.nodes(),
            spares: usize::from(self == Self::SixNodes),
            ..options
        }
        .synced()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_quorum_and_opposite_nodes_do_not() {
        let shared = |shape: ClusterShape, one, other| shape.share_quorum(ServerKind::Cassandra, one, other);
        assert!(shared(ClusterShape::Three, 0, 2));
        assert!(shared(ClusterShape::SixNodes, 5, 0) && shared(ClusterShape::SixNodes, 1, 3));
        assert!(!shared(ClusterShape::SixNodes, 1, 4), "no row is on both");
        assert!(
            !shared(ClusterShape::TwoDataCenters, 1, 3),
            "the other data centre"
        );
        assert!(!shared(ClusterShape::Three, 1, 1));
    }
}
