//! The replication of a keyspace.

use std::collections::{BTreeMap, HashMap};

use cdrs_tokio::consistency::Consistency;

/// A replication strategy with its factors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// `NetworkTopologyStrategy`: the number of replicas in each data centre, in different racks where there are enough.
    NetworkTopology(BTreeMap<String, usize>),
    /// `SimpleStrategy`: the number of replicas, regardless of data centre and rack.
    Simple(usize),
}

impl Replication {
    /// Parses `replication` of `system_schema.keyspaces`. `None`: another strategy, or transient replicas.
    pub fn parse(options: &HashMap<String, String>) -> Option<Self> {
        let class = options.get("class")?;
        if class.ends_with("NetworkTopologyStrategy") {
            let factors = options.iter().filter(|(name, _)| *name != "class");
            let factors = factors.map(|(name, factor)| Some((name.clone(), factor.parse().ok()?)));
            factors.collect::<Option<_>>().map(Self::NetworkTopology)
        } else if class.ends_with("SimpleStrategy") {
            let factor = options.get("replication_factor")?;
            factor.parse().ok().map(Self::Simple)
        } else {
            None
        }
    }

    /// The number of replicas that a walk over the ring of the local data centre collects.
    pub(super) fn local_factor(&self, local: &str) -> usize {
        match self {
            Self::NetworkTopology(factors) => factors.get(local).copied().unwrap_or(0),
            Self::Simple(factor) => *factor,
        }
    }

    fn total(&self) -> usize {
        match self {
            Self::NetworkTopology(factors) => factors.values().sum(),
            Self::Simple(factor) => *factor,
        }
    }

    /// How many of a row's `replicas` local replicas must respond at `consistency` if all others do.
    pub(super) fn required_local(&self, consistency: Consistency, local: &str, replicas: usize) -> usize {
        let total = self.total();
        let remote = match self {
            Self::NetworkTopology(_) => total - self.local_factor(local),
            Self::Simple(_) => total.saturating_sub(replicas),
        };
        match consistency {
            Consistency::LocalOne => 1,
            Consistency::LocalQuorum | Consistency::EachQuorum => self.local_factor(local) / 2 + 1,
            Consistency::Two => 2_usize.saturating_sub(remote),
            Consistency::Three => 3_usize.saturating_sub(remote),
            Consistency::Quorum => (total / 2 + 1).saturating_sub(remote),
            Consistency::All => total.saturating_sub(remote),
            _ => 1_usize.saturating_sub(remote),
        }
    }
}
