//! Limits batches in flight by number and by distance. Pure. `delivery_loop` explains why.

use std::collections::VecDeque;
use std::ops::Range;

/// A window over the records of a run; it advances with its oldest batch.
#[derive(Debug)]
pub struct SendWindow {
    batches: usize,
    span: u64,
    /// The first record of each batch in the window, the oldest batch first.
    firsts: VecDeque<u64>,
}

impl SendWindow {
    /// Creates a window of at most `batches` within `span` records. An empty window admits any batch of up to `span`
    /// records.
    #[must_use]
    pub fn new(batches: usize, span: u64) -> Self {
        Self {
            batches,
            span,
            firsts: VecDeque::new(),
        }
    }

    /// Whether a batch of these records may be sent. They must follow those in the window.
    #[must_use]
    pub fn admits(&self, records: &Range<u64>) -> bool {
        let oldest = *self.firsts.front().unwrap_or(&records.start);
        self.firsts.len() < self.batches && records.end.saturating_sub(oldest) <= self.span
    }

    /// Adds a batch.
    pub fn push(&mut self, records: &Range<u64>) {
        self.firsts.push_back(records.start);
    }

    /// Removes the oldest batch.
    pub fn pop_oldest(&mut self) {
        self.firsts.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_advances_with_its_oldest_batch() {
        let mut window = SendWindow::new(2, 20);
        window.push(&(0..10));
        assert!(window.admits(&(10..20)));
        assert!(!window.admits(&(15..25)), "too far from the oldest");
        window.push(&(10..20));
        assert!(!window.admits(&(20..21)), "too many");
        window.pop_oldest();
        assert!(window.admits(&(20..30)) && !window.admits(&(21..31)));
        window.pop_oldest();
        assert!(window.admits(&(500..520)), "an empty window admits any position");
    }
}
