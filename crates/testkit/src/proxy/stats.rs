//! Counts of a proxy's faults, with which a test proves that a behavior had an effect.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the proxy started, over all of its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// Connections that were reset after a number of bytes.
    pub resets: u64,
    /// Chunks that were forwarded late.
    pub delayed: u64,
    /// Slices into which chunks were cut by size or rate.
    pub slices: u64,
    /// Bytes that were read and dropped.
    pub dropped_bytes: u64,
}

impl ProxyStats {
    /// The counts since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            resets: self.resets - before.resets,
            delayed: self.delayed - before.delayed,
            slices: self.slices - before.slices,
            dropped_bytes: self.dropped_bytes - before.dropped_bytes,
        }
    }
}

/// The live counters of [`ProxyStats`], and the bytes forwarded in each direction.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) passed: [AtomicU64; 2],
    pub(super) resets: AtomicU64,
    pub(super) delayed: AtomicU64,
    pub(super) slices: AtomicU64,
    pub(super) dropped_bytes: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> ProxyStats {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ProxyStats {
            resets: count(&self.resets),
            delayed: count(&self.delayed),
            slices: count(&self.slices),
            dropped_bytes: count(&self.dropped_bytes),
        }
    }
}
