//! Places for pages: on their way, or waiting to be delivered. Whoever wants a page waits for a place first, so that
//! a publisher that is down stops the fetching and nothing grows. Holds no page.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// The places.
#[derive(Debug)]
pub struct PageSlots {
    free: Semaphore,
    /// Places that are to vanish when they become free: more pages wait than there is room for.
    excess: AtomicUsize,
}

impl PageSlots {
    /// `places` (1 or more), of which `taken` are taken.
    #[must_use]
    pub fn new(places: usize, taken: usize) -> Self {
        Self {
            free: Semaphore::new(places.saturating_sub(taken)),
            excess: AtomicUsize::new(taken.saturating_sub(places)),
        }
    }

    /// Takes a place, once there is one; in the order of asking.
    pub async fn acquire(&self) {
        let place = self.free.acquire().await;
        place.expect("the semaphore is never closed").forget();
    }

    /// Gives a place back.
    pub fn release(&self) {
        let fewer = |excess: usize| excess.checked_sub(1);
        let vanished = self
            .excess
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        if vanished.is_err() {
            self.free.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_places_are_free_than_there_are() {
        let slots = PageSlots::new(2, 0);
        slots.acquire().await;
        slots.acquire().await;
        assert_eq!(slots.free.available_permits(), 0);
        slots.release();
        assert_eq!(slots.free.available_permits(), 1);
    }

    #[test]
    fn room_that_shrank_is_given_back_only_to_its_new_size() {
        let slots = PageSlots::new(2, 5);
        (0..3).for_each(|_| slots.release());
        assert_eq!(slots.free.available_permits(), 0);
        (0..2).for_each(|_| slots.release());
        assert_eq!(slots.free.available_permits(), 2);
    }
}
