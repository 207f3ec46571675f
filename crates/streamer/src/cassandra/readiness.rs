//! Whether Cassandra is ready: rows and checkpoints are acknowledged, and every row's replicas can be reached.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use service::Dependency;

/// The state behind Cassandra's entry in `/readyz`. A session alone is not readiness: the tables must be readable, too.
#[derive(Clone)]
pub struct CassandraReadiness(Arc<ReadinessState>);

struct ReadinessState {
    dependency: Dependency,
    /// The micro-batches whose rows are not acknowledged.
    blocked_batches: AtomicUsize,
    checkpoints_refused: AtomicBool,
    /// Why some rows can't be written, whether or not there are any.
    unreachable: Mutex<Option<String>>,
}

/// A micro-batch whose rows are not acknowledged. Dropped, it is not counted any more.
pub struct BlockedBatch(CassandraReadiness);

impl CassandraReadiness {
    pub(super) fn new(dependency: Dependency) -> Self {
        Self(Arc::new(ReadinessState {
            dependency,
            blocked_batches: AtomicUsize::new(0),
            checkpoints_refused: AtomicBool::new(false),
            unreachable: Mutex::new(None),
        }))
    }

    /// Cassandra in `/readyz`.
    pub fn dependency(&self) -> &Dependency {
        &self.0.dependency
    }

    /// Reports that rows of a micro-batch are not acknowledged. Cassandra stays unready until they are.
    pub fn rows_unacknowledged(&self, reason: impl Into<String>) -> BlockedBatch {
        self.0.blocked_batches.fetch_add(1, Ordering::Relaxed);
        self.0.dependency.unready(reason);
        BlockedBatch(self.clone())
    }

    /// Reports that rows are acknowledged, among them those of `blocked`.
    pub fn rows_acknowledged(&self, blocked: Option<BlockedBatch>) {
        drop(blocked);
        self.table_verified();
    }

    /// Reports that the server refuses checkpoints. Cassandra stays unready until it takes them.
    pub fn checkpoints_refused(&self, error: &str) {
        self.0.checkpoints_refused.store(true, Ordering::Relaxed);
        let reason = format!("cassandra refuses checkpoints: {error}");
        self.0.dependency.unready(reason);
    }

    /// Reports that checkpoints are written.
    pub fn checkpoints_written(&self) {
        if self.0.checkpoints_refused.swap(false, Ordering::Relaxed) {
            self.table_verified();
        }
    }

    /// Reports why some rows can't be written at present, or that all can.
    pub(super) fn replicas_reachable(&self, unreachable: Option<String>) {
        let mut known = self.0.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &unreachable {
            self.0.dependency.unready(reason.clone());
        }
        *known = unreachable;
    }

    /// Reports that the table was read. Cassandra is ready unless rows are pending, checkpoints refused or replicas
    /// unreachable, because a read of one replica proves no quorum.
    pub fn table_verified(&self) {
        let unreachable = self.0.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        let is_blocked = self.0.blocked_batches.load(Ordering::Relaxed) > 0
            || self.0.checkpoints_refused.load(Ordering::Relaxed)
            || unreachable.is_some();
        if !is_blocked {
            self.0.dependency.ready();
        }
    }
}

impl BlockedBatch {
    /// Updates the reason.
    pub fn still(&self, reason: impl Into<String>) {
        self.0.dependency().unready(reason);
    }
}

impl Drop for BlockedBatch {
    fn drop(&mut self) {
        self.0.0.blocked_batches.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use service::Health;

    use super::*;

    #[test]
    fn cassandra_is_ready_when_last_blocked_batch_is_acknowledged() {
        let readiness = CassandraReadiness::new(Health::default().dependency("cassandra"));
        let one = readiness.rows_unacknowledged("one");
        let other = readiness.rows_unacknowledged("other");
        readiness.rows_acknowledged(Some(one));
        readiness.rows_acknowledged(None);
        assert!(!readiness.dependency().is_ready());
        readiness.rows_acknowledged(Some(other));
        assert!(readiness.dependency().is_ready());
    }

    #[test]
    fn unreachable_replicas_keep_cassandra_unready_without_rows() {
        let readiness = CassandraReadiness::new(Health::default().dependency("cassandra"));
        readiness.table_verified();
        readiness.replicas_reachable(Some("2 of 3 nodes".to_owned()));
        readiness.table_verified();
        assert!(!readiness.dependency().is_ready());
        readiness.replicas_reachable(None);
        readiness.table_verified();
        assert!(readiness.dependency().is_ready());
    }
}
