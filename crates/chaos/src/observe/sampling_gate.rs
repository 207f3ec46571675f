//! Suspends checkpoint samples while an operator changes the checkpoints.

use std::sync::atomic::{AtomicU64, Ordering};

/// A gate with a generation, which is odd while the gate is closed.
#[derive(Debug, Default)]
pub(crate) struct SamplingGate(AtomicU64);

impl SamplingGate {
    pub(crate) fn close(&self) {
        self.0.fetch_or(1, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        if self.is_closed() {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.generation() % 2 == 1
    }

    /// Changes whenever the gate is closed or opened.
    pub(crate) fn generation(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_reveals_a_past_closure() {
        let gate = SamplingGate::default();
        let before = gate.generation();
        gate.close();
        gate.close();
        assert!(gate.is_closed());
        gate.open();
        gate.open();
        assert!(!gate.is_closed() && gate.generation() != before);
    }
}
