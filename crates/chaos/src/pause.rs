//! A gate that holds the watch over the checkpoints off while an operator changes them on purpose.

use std::sync::atomic::{AtomicU64, Ordering};

/// Open, unless somebody holds it. Counts how often it was turned: an odd count is held.
#[derive(Debug, Default)]
pub struct Pause(AtomicU64);

impl Pause {
    /// From now on nothing is looked at.
    pub fn hold(&self) {
        self.0.fetch_or(1, Ordering::SeqCst);
    }

    /// From now on everything is.
    pub fn release(&self) {
        if self.is_held() {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether it is held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.turns() % 2 == 1
    }

    /// Differs from an earlier answer when it was held in between.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_noticed_afterwards() {
        let pause = Pause::default();
        let before = pause.turns();
        pause.hold();
        pause.hold();
        assert!(pause.is_held());
        pause.release();
        pause.release();
        assert!(!pause.is_held() && pause.turns() != before);
    }
}
