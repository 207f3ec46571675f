//! The dead letters of the last day that this process wrote: their number by reason, and the newest. No values.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

/// The newest dead letters that are kept.
const NEWEST: usize = 10;
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Counts are kept for each of these, so the last day is exact to ten minutes.
const SLOT: Duration = Duration::from_secs(600);

/// A dead letter without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecentDeadLetter {
    /// The partition of the record.
    pub partition: i32,
    /// The offset of the record.
    pub offset: i64,
    /// Why the record is no row.
    pub reason: &'static str,
    /// When the brokers acknowledged the dead letter.
    pub at: Timestamp,
}

/// The dead letters of the last day, by this process.
#[derive(Debug, Default)]
pub struct RecentDeadLetters {
    /// Newest first.
    newest: VecDeque<RecentDeadLetter>,
    /// The begin of each slot and its counts, oldest first. At most 145 slots.
    slots: VecDeque<(Instant, BTreeMap<&'static str, u64>)>,
}

/// The section `dead_letters` of `GET /status`.
#[derive(Debug, Serialize)]
pub struct DeadLettersSection {
    last_24h: BTreeMap<&'static str, u64>,
    newest: Vec<RecentDeadLetter>,
}

impl RecentDeadLetters {
    /// Adds a dead letter. `now` must not decrease between calls.
    pub fn add(&mut self, letter: RecentDeadLetter, now: Instant) {
        self.expire(now);
        if self.slots.back().is_none_or(|(begin, _)| now - *begin >= SLOT) {
            self.slots.push_back((now, BTreeMap::new()));
        }
        if let Some((_, counts)) = self.slots.back_mut() {
            *counts.entry(letter.reason).or_default() += 1;
        }
        self.newest.truncate(NEWEST - 1);
        self.newest.push_front(letter);
    }

    /// Returns the counts of the last day and the newest dead letters of any age.
    pub fn section(&mut self, now: Instant) -> DeadLettersSection {
        self.expire(now);
        let mut last_24h = BTreeMap::new();
        for (reason, count) in self.slots.iter().flat_map(|(_, counts)| counts) {
            *last_24h.entry(*reason).or_default() += count;
        }
        DeadLettersSection {
            last_24h,
            newest: self.newest.iter().cloned().collect(),
        }
    }

    fn expire(&mut self, now: Instant) {
        while self.slots.front().is_some_and(|(begin, _)| now - *begin >= DAY) {
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: i64, reason: &'static str) -> RecentDeadLetter {
        RecentDeadLetter {
            partition: 0,
            offset,
            reason,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn counts_cover_a_day_and_the_newest_ten_stay() {
        let (mut recent, start) = (RecentDeadLetters::default(), Instant::now());
        for offset in 0..12 {
            recent.add(letter(offset, "malformed"), start);
        }
        recent.add(letter(12, "tombstone"), start + DAY / 2);
        let section = recent.section(start + DAY / 2);
        assert_eq!(
            section.last_24h,
            BTreeMap::from([("malformed", 12), ("tombstone", 1)])
        );
        let offsets: Vec<_> = section.newest.iter().map(|letter| letter.offset).collect();
        assert_eq!(offsets, (3..=12).rev().collect::<Vec<_>>());
        let section = recent.section(start + DAY);
        assert_eq!(section.last_24h, BTreeMap::from([("tombstone", 1)]));
        assert_eq!(section.newest.len(), 10);
    }

    #[test]
    fn number_of_slots_is_bounded() {
        let (mut recent, start) = (RecentDeadLetters::default(), Instant::now());
        for minute in 0..3 * 24 * 60 {
            recent.add(letter(0, "malformed"), start + Duration::from_secs(60 * minute));
        }
        assert!(recent.slots.len() <= 145, "{}", recent.slots.len());
    }
}
