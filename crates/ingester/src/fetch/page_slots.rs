//! Limits pages in flight or queued. Acquire a slot before fetching, so that a publisher outage applies backpressure.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// Slots for pages.
#[derive(Debug)]
pub struct PageSlots {
    free: Semaphore,
    /// Slots to remove on release, when more pages are queued than the capacity allows.
    excess: AtomicUsize,
}

impl PageSlots {
    /// Creates `capacity` (1 or more) slots, of which `used` are in use.
    #[must_use]
    pub fn new(capacity: usize, used: usize) -> Self {
        Self {
            free: Semaphore::new(capacity.saturating_sub(used)),
            excess: AtomicUsize::new(used.saturating_sub(capacity)),
        }
    }

    /// Acquires a slot, in the order of the calls.
    pub async fn acquire(&self) {
        let permit = self.free.acquire().await;
        permit.expect("the semaphore is never closed").forget();
    }

    /// Releases a slot.
    pub fn release(&self) {
        let decrement = |excess: usize| excess.checked_sub(1);
        let removed = self
            .excess
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, decrement);
        if removed.is_err() {
            self.free.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slots_are_bounded_by_the_capacity() {
        let slots = PageSlots::new(2, 0);
        slots.acquire().await;
        slots.acquire().await;
        assert_eq!(slots.free.available_permits(), 0);
        slots.release();
        assert_eq!(slots.free.available_permits(), 1);
    }

    #[test]
    fn excess_slots_are_removed_on_release() {
        let slots = PageSlots::new(2, 5);
        (0..3).for_each(|_| slots.release());
        assert_eq!(slots.free.available_permits(), 0);
        (0..2).for_each(|_| slots.release());
        assert_eq!(slots.free.available_permits(), 2);
    }
}
