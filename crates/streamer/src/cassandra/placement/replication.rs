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

    /// Why the streamer can't work at `consistency`: the keyspace has too few replicas for it, or a read may miss a write that
    /// was acknowledged at it, because no replica has to be in both.
    pub fn unusable(&self, consistency: Consistency, local: &str) -> Option<String> {
        let is_local = matches!(consistency, Consistency::LocalOne | Consistency::LocalQuorum);
        let (found, place) = if is_local {
            (self.local_factor(local), format!(" in the data centre {local}"))
        } else {
            (self.total(), String::new())
        };
        let (required, has_majority) = match consistency {
            Consistency::LocalOne | Consistency::One => (1, false),
            Consistency::Two => (2, false),
            Consistency::Three => (3, false),
            _ => (1, true),
        };
        if found < required {
            return Some(format!(
                "it needs {required} replicas of each row, and the keyspace has {found}{place}"
            ));
        }
        (!has_majority && 2 * required <= found).then(|| {
            format!(
                "of {found} replicas of a row, {required} may lack the last write, so that checkpoints read back differ; use \
                 local_quorum"
            )
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "here";

    fn replicas(local: usize, remote: usize) -> Replication {
        let factors = [(LOCAL.to_owned(), local), ("there".to_owned(), remote)];
        Replication::NetworkTopology(factors.into())
    }

    #[test]
    fn consistency_needs_its_replicas() {
        use Consistency::{All, LocalOne, LocalQuorum, One, Quorum, Three, Two};
        let reason = |replication: &Replication, level| replication.unusable(level, LOCAL);
        assert_eq!(
            reason(&replicas(1, 0), Two).unwrap(),
            "it needs 2 replicas of each row, and the keyspace has 1"
        );
        assert!(reason(&Replication::Simple(2), Three).is_some());
        for level in [LocalOne, LocalQuorum] {
            let reason = reason(&replicas(0, 3), level).unwrap();
            assert!(reason.ends_with("has 0 in the data centre here"), "{reason}");
        }
        for level in [One, LocalOne, LocalQuorum, Quorum, All] {
            assert_eq!(reason(&replicas(1, 0), level), None, "{level:?}");
        }
    }

    #[test]
    fn read_meets_the_last_write_only_with_a_common_replica() {
        use Consistency::{LocalOne, LocalQuorum, One, Quorum, Three, Two};
        for (level, local, remote, is_usable) in [
            (One, 1, 1, false),
            (LocalOne, 1, 2, true),
            (LocalOne, 2, 0, false),
            (Two, 3, 0, true),
            (Two, 3, 1, false),
            (Three, 5, 0, true),
            (Three, 3, 3, false),
            (LocalQuorum, 3, 3, true),
            (Quorum, 3, 3, true),
        ] {
            let reason = replicas(local, remote).unusable(level, LOCAL);
            assert_eq!(
                reason.is_none(),
                is_usable,
                "{level:?} with {local} and {remote}: {reason:?}"
            );
        }
    }
}
