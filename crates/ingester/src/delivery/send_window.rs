//! Which batches may be under way together: only so many, and only such as lie near each other in the run. Pure; it
//! sends nothing. Why it must be so stands in `delivering`.

use std::collections::VecDeque;
use std::ops::Range;

/// A window over the run's records, which slides on with its oldest batch.
#[derive(Debug)]
pub struct SendWindow {
    batches: usize,
    span: u64,
    /// The first record of each batch in the window, the oldest batch first.
    firsts: VecDeque<u64>,
}

impl SendWindow {
    /// At most so many `batches`, which lie within `span` records. A batch of `span` or fewer records always finds
    /// room in an empty window.
    #[must_use]
    pub fn new(batches: usize, span: u64) -> Self {
        Self {
            batches,
            span,
            firsts: VecDeque::new(),
        }
    }

    /// Whether a batch of these records, all behind those in the window, may go out.
    #[must_use]
    pub fn admits(&self, records: &Range<u64>) -> bool {
        let oldest = *self.firsts.front().unwrap_or(&records.start);
        self.firsts.len() < self.batches && records.end.saturating_sub(oldest) <= self.span
    }

    /// It goes out.
    pub fn push(&mut self, records: &Range<u64>) {
        self.firsts.push_back(records.start);
    }

    /// The oldest batch is done with.
    pub fn pop_oldest(&mut self) {
        self.firsts.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_its_oldest() {
        let mut window = SendWindow::new(2, 20);
        window.push(&(0..10));
        assert!(window.admits(&(10..20)));
        assert!(!window.admits(&(15..25)), "too far from the oldest");
        window.push(&(10..20));
        assert!(!window.admits(&(20..21)), "too many");
        window.pop_oldest();
        assert!(window.admits(&(20..30)) && !window.admits(&(21..31)));
        window.pop_oldest();
        assert!(window.admits(&(500..520)), "an empty one has room anywhere");
    }
}
