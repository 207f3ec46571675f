//! Detects users that the run has sent already. The API repeats UUIDs for different people, and a repeat must not
//! overwrite the first. Pure; bounded to the latest users of the run.

use std::collections::{HashSet, VecDeque};

use model::Key;

/// The latest user ids of a run.
#[derive(Debug)]
pub struct DedupWindow {
    window: usize,
    order: VecDeque<Key>,
    ids: HashSet<Key>,
}

impl DedupWindow {
    /// Creates a window over the latest `window` ids.
    #[must_use]
    pub fn new(window: usize) -> Self {
        Self {
            window,
            order: VecDeque::new(),
            ids: HashSet::new(),
        }
    }

    /// Adds `id`. Returns whether it is new.
    pub fn insert(&mut self, id: Key) -> bool {
        if !self.ids.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > self.window
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> Key {
        Key::Uuid(Uuid::from_u128(number))
    }

    #[test]
    fn repeated_id_is_detected_within_the_window_only() {
        let mut dedup = DedupWindow::new(2);
        assert!(dedup.insert(id(1)));
        assert!(dedup.insert(id(2)));
        assert!(!dedup.insert(id(1)));
        assert!(dedup.insert(id(3)));
        assert!(!dedup.insert(id(2)));
        assert!(dedup.insert(id(1)), "evicted by 3");
        assert_eq!((dedup.order.len(), dedup.ids.len()), (2, 2));
    }
}
