//! How far a partition is durable: the longest prefix of its records whose every one is a row or a dead letter.
//!
//! Pure bookkeeping of completions that come in any order. It commits nothing and knows no database.

use std::collections::VecDeque;

use service::failpoint;

use crate::clock::HighMark;
use crate::tally::{Limits, Tally};

/// A point between two records of a partition, with what has to be known to go on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset of the next record to read.
    pub next_offset: i64,
    /// The write timestamp of the record before.
    pub last_stamp: Option<i64>,
    /// The highest point reached up to here.
    pub high: HighMark,
    /// The dead letters up to here.
    pub tally: Tally,
}

/// The prefix of one assigned partition. The only source of an offset to check in.
#[derive(Debug)]
pub struct Progress {
    durable: Position,
    open: VecDeque<Segment>,
    limits: Limits,
}

/// A stretch of records that is made durable as one.
#[derive(Debug)]
struct Segment {
    id: u64,
    end: Position,
    records: Records,
    done: bool,
}

/// The records of a stretch, as far as the tally needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// How many.
    pub count: usize,
    /// Which of them are dead letters, by their place among these.
    pub dead: Vec<usize>,
}

impl Progress {
    /// Nothing is open, everything before `start` is durable.
    pub fn from(start: Position, limits: Limits) -> Self {
        Self {
            durable: start,
            open: VecDeque::new(),
            limits,
        }
    }

    /// Opens the stretch of `records` from the end of the one before up to `end`. Ids are the caller's, each used once.
    pub fn open(&mut self, id: u64, end: Position, records: Records) {
        self.open.push_back(Segment {
            id,
            end,
            records,
            done: false,
        });
    }

    /// The stretch `id` is durable; `refused` of its records became dead letters although they were to be rows. True
    /// when the prefix grew.
    pub fn complete(&mut self, id: u64, refused: &[usize]) -> bool {
        if let Some(segment) = self.open.iter_mut().find(|segment| segment.id == id) {
            segment.done = true;
            segment.records.dead.extend_from_slice(refused);
        }
        if failpoint::inject("checkpoint_not_prefixed") {
            for earlier in self.open.iter_mut().filter(|segment| segment.id < id) {
                earlier.done = true;
            }
        }
        let before = self.durable.next_offset;
        while self.open.front().is_some_and(|segment| segment.done) {
            let segment = self.open.pop_front().expect("the front was just seen");
            self.durable = Position {
                tally: segment.records.tally(self.durable.tally, self.limits),
                ..segment.end
            };
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

impl Records {
    /// The tally after them. Once it has reached a limit it stays: what was being written when that was found is no
    /// sign that the cause is mended.
    fn tally(&self, before: Tally, limits: Limits) -> Tally {
        (0..self.count).fold(before, |tally, place| match limits.reached(tally) {
            Some(_) => tally,
            None => tally.after(self.dead.contains(&place), limits.window()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::DeadLetterSettings;

    fn at(next_offset: i64) -> Position {
        Position {
            next_offset,
            last_stamp: None,
            high: HighMark::default(),
            tally: Tally::default(),
        }
    }

    fn limits() -> Limits {
        Limits::new(&DeadLetterSettings::default())
    }

    fn none() -> Records {
        Records::default()
    }

    #[test]
    fn a_gap_holds_the_prefix_back() {
        let mut progress = Progress::from(at(0), limits());
        progress.open(1, at(10), none());
        progress.open(2, at(20), none());
        assert!(!progress.complete(2, &[]));
        assert_eq!(progress.durable(), at(0));
        assert!(progress.complete(1, &[]));
        assert_eq!(progress.durable(), at(20));
        assert!(progress.is_settled());
    }

    #[test]
    fn dead_letters_count_in_the_order_of_the_log_and_only_once_they_are_durable() {
        let mut progress = Progress::from(at(0), limits());
        let records = |count, dead: &[usize]| Records {
            count,
            dead: dead.to_vec(),
        };
        progress.open(1, at(3), records(3, &[0, 2]));
        progress.open(2, at(5), records(2, &[0]));
        progress.complete(2, &[1]);
        assert_eq!(progress.durable().tally.in_a_row, 0);
        progress.complete(1, &[]);
        assert_eq!(
            progress.durable().tally.in_a_row,
            3,
            "the last of the first, and both that follow"
        );
    }

    #[test]
    fn a_limit_that_was_reached_stays_so_whatever_was_being_written_beyond_it() {
        let limits = Limits::new(&DeadLetterSettings {
            max_consecutive: 2,
            ..DeadLetterSettings::default()
        });
        let mut progress = Progress::from(at(0), limits);
        let records = |count| Records {
            count,
            dead: Vec::new(),
        };
        progress.open(1, at(4), records(4));
        progress.open(2, at(9), records(5));
        progress.complete(1, &[1, 2]);
        progress.complete(2, &[]);
        assert_eq!(progress.durable().tally.in_a_row, 2);
        assert_eq!(progress.durable().next_offset, 9);
    }

    #[test]
    fn a_completion_that_was_never_opened_changes_nothing() {
        let mut progress = Progress::from(at(5), limits());
        assert!(!progress.complete(9, &[]));
        assert_eq!(progress.durable(), at(5));
    }

    proptest! {
        #[test]
        fn the_durable_point_is_the_prefix_after_every_completion(
            order in Just((0_u64..40).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut progress = Progress::from(at(0), limits());
            for id in 0..40_u64 {
                progress.open(id, at(i64::try_from(id + 1).unwrap() * 3), none());
            }
            let mut done = [false; 40];
            for id in order {
                progress.complete(id, &[]);
                done[usize::try_from(id).unwrap()] = true;
                let prefix = done.iter().take_while(|done| **done).count();
                prop_assert_eq!(progress.durable().next_offset, i64::try_from(prefix).unwrap() * 3);
            }
        }
    }
}
