//! How far a partition is durable: the longest prefix of its records whose every one is a row or a dead letter.
//!
//! Pure bookkeeping of completions that come in any order. It commits nothing and knows no database.

use std::collections::VecDeque;

use crate::clock::HighMark;

/// A point between two records of a partition, with what has to be known to go on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset of the next record to read.
    pub next_offset: i64,
    /// The write timestamp of the record before.
    pub last_stamp: Option<i64>,
    /// The highest point reached up to here.
    pub high: HighMark,
    /// Records refused in a row up to here.
    pub consecutive_dead_letters: i32,
}

/// The prefix of one assigned partition. The only source of an offset to check in.
#[derive(Debug)]
pub struct Progress {
    durable: Position,
    open: VecDeque<Segment>,
}

/// A stretch of records that is made durable as one.
#[derive(Debug)]
struct Segment {
    id: u64,
    end: Position,
    done: bool,
}

impl Progress {
    /// Nothing is open, everything before `start` is durable.
    pub fn from(start: Position) -> Self {
        Self {
            durable: start,
            open: VecDeque::new(),
        }
    }

    /// Opens the stretch from the end of the one before up to `end`. Ids are the caller's, each used once.
    pub fn open(&mut self, id: u64, end: Position) {
        self.open.push_back(Segment { id, end, done: false });
    }

    /// The stretch `id` is durable. True when the prefix grew.
    pub fn complete(&mut self, id: u64) -> bool {
        if let Some(segment) = self.open.iter_mut().find(|segment| segment.id == id) {
            segment.done = true;
        }
        let before = self.durable.next_offset;
        while self.open.front().is_some_and(|segment| segment.done) {
            let segment = self.open.pop_front().expect("the front was just seen");
            self.durable = segment.end;
        }
        self.durable.next_offset > before
    }

    /// Where the next start would be, were the process killed now.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Everything opened is durable.
    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(next_offset: i64) -> Position {
        Position {
            next_offset,
            last_stamp: None,
            high: HighMark::default(),
            consecutive_dead_letters: 0,
        }
    }

    #[test]
    fn a_gap_holds_the_prefix_back() {
        let mut progress = Progress::from(at(0));
        progress.open(1, at(10));
        progress.open(2, at(20));
        assert!(!progress.complete(2));
        assert_eq!(progress.durable(), at(0));
        assert!(progress.complete(1));
        assert_eq!(progress.durable(), at(20));
        assert!(progress.is_settled());
    }

    #[test]
    fn a_completion_that_was_never_opened_changes_nothing() {
        let mut progress = Progress::from(at(5));
        assert!(!progress.complete(9));
        assert_eq!(progress.durable(), at(5));
    }

    proptest! {
        #[test]
        fn the_durable_point_is_the_prefix_after_every_completion(
            order in Just((0_u64..40).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut progress = Progress::from(at(0));
            for id in 0..40_u64 {
                progress.open(id, at(i64::try_from(id + 1).unwrap() * 3));
            }
            let mut done = [false; 40];
            for id in order {
                progress.complete(id);
                done[usize::try_from(id).unwrap()] = true;
                let prefix = done.iter().take_while(|done| **done).count();
                prop_assert_eq!(progress.durable().next_offset, i64::try_from(prefix).unwrap() * 3);
            }
        }
    }
}
