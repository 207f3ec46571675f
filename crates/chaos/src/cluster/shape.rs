//! How many servers a cluster has.

/// Size of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ClusterShape {
    /// One broker and one node: losing one loses all.
    Single,
    /// The same, with the broker's log on a small disk.
    SmallDisk,
    /// Three of each, with replication factor 3.
    Three,
}

impl ClusterShape {
    /// Servers of each kind.
    pub(crate) fn nodes(self) -> usize {
        match self {
            Self::Single | Self::SmallDisk => 1,
            Self::Three => 3,
        }
    }

    /// Replicas that must be in sync for a write.
    pub(crate) fn min_in_sync(self) -> usize {
        self.nodes().div_ceil(2)
    }
}
