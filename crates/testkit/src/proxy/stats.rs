//! What a proxy has done to what went through it, in numbers: whoever sets a behavior can prove that it had an effect.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted since the proxy started, over all of its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// Connections that were reset after their bytes were counted down.
    pub resets: u64,
    /// Pieces that were passed on later than they came.
    pub delayed: u64,
    /// Slices into which pieces were cut, for their size or for their rate.
    pub slices: u64,
    /// Bytes that were read and lost.
    pub swallowed: u64,
}

impl ProxyStats {
    /// What was done since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            resets: self.resets - before.resets,
            delayed: self.delayed - before.delayed,
            slices: self.slices - before.slices,
            swallowed: self.swallowed - before.swallowed,
        }
    }
}

/// The same, while it is counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) resets: AtomicU64,
    pub(super) delayed: AtomicU64,
    pub(super) slices: AtomicU64,
    pub(super) swallowed: AtomicU64,
}

impl Tally {
    pub(super) fn read(&self) -> ProxyStats {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ProxyStats {
            resets: count(&self.resets),
            delayed: count(&self.delayed),
            slices: count(&self.slices),
            swallowed: count(&self.swallowed),
        }
    }
}
