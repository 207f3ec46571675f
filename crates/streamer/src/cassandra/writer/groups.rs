//! Groups rows into batches for the nodes that coordinate them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cassandra::cluster::{Cluster, CoordinatorLoad, Node, coordinator};
use crate::cassandra::placement::Placement;
use crate::cassandra::session::Session;
use crate::cassandra::writer::row_write::RowWrite;

/// Indices of rows among the rows to write.
pub(super) type RowIndices = Vec<u32>;

/// The rows of one statement, and the session that it is sent on.
pub(super) struct StatementGroup {
    pub assigned: CoordinatorLoad,
    pub session: Arc<Session>,
    pub rows: RowIndices,
}

/// Assigns batches to nodes.
#[derive(Debug)]
pub(super) struct Grouper {
    /// The maximum estimated size of a batch.
    bytes: usize,
    /// Where the search for the node with the fewest batches begins, so that idle nodes take turns.
    turn: AtomicUsize,
}

/// Rows of one target share a batch: the index of a node, or [`NO_NODE`] plus the replica set.
type Target = u32;

/// No replica is connected. Any other node may coordinate the rows. Each replica set has its own batches, because a batch
/// fails with its worst row.
const NO_NODE: Target = 1 << 16;

impl Grouper {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            turn: AtomicUsize::new(0),
        }
    }

    /// Groups `rows` by node. `sessions`: those of the cluster's nodes, at least one.
    pub(super) fn group(
        &self,
        cluster: &Cluster,
        sessions: &[Option<Arc<Session>>],
        writes: &[RowWrite],
        rows: &[u32],
        groups: &mut Vec<StatementGroup>,
    ) {
        let placement = cluster.placement();
        // Where it is unknown which rows share replicas, each row goes alone.
        let bytes = placement.map_or(0, |_| self.bytes);
        let placement = placement.filter(|placement| !placement.is_shared());
        let target = |row: u32| {
            placement.map_or(NO_NODE, |placement| {
                target_of(placement, sessions, writes[row as usize].partition_key())
            })
        };
        let size = |row: u32| writes[row as usize].estimated_size();
        for (target, rows) in batches(rows, target, size, bytes) {
            let node = if target < NO_NODE {
                target as usize
            } else {
                self.least_assigned(cluster.nodes(), sessions)
            };
            let session = sessions[node].as_ref();
            groups.push(StatementGroup {
                assigned: cluster.nodes()[node].assign(),
                session: Arc::clone(session.expect("only connected nodes are chosen")),
                rows,
            });
        }
    }

    fn least_assigned(&self, nodes: &[Arc<Node>], sessions: &[Option<Arc<Session>>]) -> usize {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..nodes.len()).map(|offset| first.wrapping_add(offset) % nodes.len());
        let connected = in_turn.filter(|node| sessions[*node].is_some());
        let least = connected.min_by_key(|node| nodes[*node].assigned());
        least.expect("at least one node is connected")
    }
}

fn target_of(placement: &Placement, sessions: &[Option<Arc<Session>>], key: &[u8]) -> Target {
    let set = placement.replica_set(key);
    let node = coordinator(placement.replicas(set), sessions);
    node.map_or(NO_NODE + set, Target::from)
}

/// Splits rows into batches of one target and at most `bytes`, each of at least one row.
fn batches(
    rows: &[u32],
    target: impl Fn(u32) -> Target,
    size: impl Fn(u32) -> usize,
    bytes: usize,
) -> Vec<(Target, RowIndices)> {
    let mut targets: Vec<_> = rows.iter().map(|row| (target(*row), *row)).collect();
    targets.sort_unstable();
    let mut batches: Vec<(Target, RowIndices)> = Vec::new();
    let mut estimated_size = 0;
    for (target, row) in targets {
        let size = size(row);
        estimated_size += size;
        match batches.last_mut() {
            Some((last, rows)) if *last == target && estimated_size <= bytes => rows.push(row),
            _ => {
                batches.push((target, vec![row]));
                estimated_size = size;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_are_sent_alone_without_a_size() {
        assert_eq!(batches(&[0, 1], |_| 0, |_| 1, 0), [(0, vec![0]), (0, vec![1])]);
        assert!(batches(&[], |_| 0, |_| 1, 0).is_empty());
    }

    proptest! {
        #[test]
        fn batches_cover_all_rows_of_a_target_within_the_size_limit(
            rows in proptest::collection::vec((0_u32..4, 1_usize..500), 0..60),
            bytes in 0_usize..5_000,
        ) {
            let indices: Vec<_> = (0_u32..).take(rows.len()).collect();
            let target = |row: u32| rows[row as usize].0;
            let size = |row: u32| rows[row as usize].1;
            let batches = batches(&indices, target, size, bytes);
            let mut covered: Vec<_> = batches.iter().flat_map(|(_, rows)| rows.clone()).collect();
            covered.sort_unstable();
            prop_assert_eq!(covered, indices);
            for (of, rows) in &batches {
                prop_assert!(rows.iter().all(|row| target(*row) == *of));
                prop_assert!(rows.len() == 1 || rows.iter().map(|row| size(*row)).sum::<usize>() <= bytes);
            }
            // No two consecutive batches of a target would have fit into one.
            for pair in batches.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
                let first = pair[0].1.iter().map(|row| size(*row)).sum::<usize>();
                prop_assert!(first + size(pair[1].1[0]) > bytes);
            }
        }
    }
}
