//! The share of each caller of the bytes in flight: at most half while others call, so that no caller can fill the memory
//! with slow uploads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long another caller counts after its last request.
const RECENT: Duration = Duration::from_secs(60);

/// The bytes in flight of one caller.
#[derive(Debug, Default)]
pub struct CallerUsage {
    bytes: AtomicUsize,
}

impl CallerUsage {
    /// The bytes in flight.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn add(&self, more: usize) {
        self.bytes.fetch_add(more, Ordering::AcqRel);
    }

    pub(super) fn sub(&self, count: usize) {
        self.bytes.fetch_sub(count, Ordering::AcqRel);
    }
}

/// Whether several callers have called recently.
#[derive(Debug)]
pub(super) struct RecentCallers {
    started: Instant,
    /// The address of the last caller's usage; zero before the first call.
    last: AtomicUsize,
    /// When a call of another caller than the one before came last, in milliseconds after `started`; zero for never.
    changed_at: AtomicU64,
}

impl RecentCallers {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            last: AtomicUsize::new(0),
            changed_at: AtomicU64::new(0),
        }
    }

    /// Records a call.
    pub(super) fn record(&self, caller: &Arc<CallerUsage>) {
        let address = Arc::as_ptr(caller) as usize;
        if self.last.load(Ordering::Relaxed) == address {
            return;
        }
        if self.last.swap(address, Ordering::Relaxed) != 0 {
            self.changed_at.store(self.millis().max(1), Ordering::Relaxed);
        }
    }

    /// Whether more than one caller has called recently.
    pub(super) fn are_several(&self) -> bool {
        let changed_at = self.changed_at.load(Ordering::Relaxed);
        let recent = u64::try_from(RECENT.as_millis()).unwrap_or(u64::MAX);
        changed_at != 0 && self.millis().saturating_sub(changed_at) < recent
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn another_caller_counts_for_a_minute() {
        let callers = RecentCallers::new();
        let (one, other) = (Arc::default(), Arc::default());
        callers.record(&one);
        callers.record(&one);
        assert!(!callers.are_several());
        callers.record(&other);
        assert!(callers.are_several());
        callers.record(&one);
        tokio::time::advance(RECENT - Duration::from_millis(1)).await;
        callers.record(&one);
        assert!(callers.are_several());
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(!callers.are_several());
    }
}
