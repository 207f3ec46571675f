//! A set of record positions, stored as ranges: which records of a page are acknowledged, and which sequence numbers of a
//! run have an outcome. Batches are in flight concurrently, so acknowledged records need not form a prefix. Pure.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Positions as sorted, disjoint, non-adjacent and non-empty ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet<T = usize>(Vec<Range<T>>);

impl<T> Default for RangeSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + Ord> From<Range<T>> for RangeSet<T> {
    fn from(range: Range<T>) -> Self {
        let mut set = Self::default();
        set.insert(range);
        set
    }
}

impl<T: Copy + Ord> RangeSet<T> {
    /// Adds each position of `range`.
    pub fn insert(&mut self, range: Range<T>) {
        if range.is_empty() {
            return;
        }
        let from = self.0.partition_point(|stored| stored.end < range.start);
        let touching = self.0[from..].partition_point(|stored| stored.start <= range.end);
        let merged = &self.0[from..from + touching];
        let start = merged
            .first()
            .map_or(range.start, |first| first.start.min(range.start));
        let end = merged.last().map_or(range.end, |last| last.end.max(range.end));
        self.0.splice(from..from + touching, [start..end]);
    }

    /// Returns the positions that are in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut ranges: Vec<_> = self.0.iter().chain(&other.0).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        let mut union = Self::default();
        // In order, so that each insertion is at the end.
        ranges.into_iter().for_each(|range| union.insert(range.clone()));
        union
    }

    /// Returns the positions that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut removed = other.0.as_slice();
        for range in &self.0 {
            let mut start = range.start;
            while let [first, rest @ ..] = removed
                && first.start < range.end
            {
                if start < first.start {
                    left.push(start..first.start);
                }
                start = start.max(first.end);
                if range.end < first.end {
                    break; // It may overlap the next range, too.
                }
                removed = rest;
            }
            if start < range.end {
                left.push(start..range.end);
            }
        }
        Self(left)
    }

    /// Whether every position of `range` is in the set.
    #[must_use]
    pub fn contains(&self, range: &Range<T>) -> bool {
        let covers = |stored: &Range<T>| stored.start <= range.start && range.end <= stored.end;
        range.is_empty() || self.0.iter().any(covers)
    }

    /// Whether any position of `range` is in the set.
    #[must_use]
    pub fn intersects(&self, range: &Range<T>) -> bool {
        let stored = self.0.iter();
        stored
            .map(|stored| stored.start.max(range.start)..stored.end.min(range.end))
            .any(|common| !common.is_empty())
    }

    /// Returns the ranges in order.
    pub fn ranges(&self) -> impl Iterator<Item = &Range<T>> {
        self.0.iter()
    }
}

impl RangeSet<u64> {
    /// Returns the number of positions.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }
}

/// `0-1000,2000-3000`; the end of each range is exclusive.
impl<T: fmt::Display> fmt::Display for RangeSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}-{}", range.start, range.end)?;
        }
        Ok(())
    }
}

impl<T: Copy + Ord + FromStr> FromStr for RangeSet<T> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut set = Self::default();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let ends = range.split_once('-');
            let ends = ends.and_then(|(start, end)| Some(start.parse().ok()?..end.parse().ok()?));
            set.insert(ends.ok_or("must be START-END ranges separated by commas")?);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set_and_positions(inserted: Vec<(u64, u64)>) -> (RangeSet<u64>, BTreeSet<u64>) {
        let (mut set, mut positions) = (RangeSet::default(), BTreeSet::new());
        for (start, records) in inserted {
            set.insert(start..start + records);
            positions.extend(start..start + records);
        }
        (set, positions)
    }

    fn inserted() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0_u64..60, 0_u64..20), 0..12)
    }

    proptest! {
        #[test]
        fn insertion_order_is_irrelevant_and_text_round_trips(
            inserted in inserted(),
            queried in (0_u64..70, 0_u64..30),
        ) {
            let (set, positions) = set_and_positions(inserted);
            let queried = queried.0..queried.0 + queried.1;
            let contained = queried.clone().all(|position| positions.contains(&position));
            prop_assert_eq!(set.contains(&queried), contained);
            let intersects = positions.iter().any(|position| queried.contains(position));
            prop_assert_eq!(set.intersects(&queried), intersects);
            prop_assert_eq!(set.count(), positions.len() as u64);
            prop_assert!(set.0.windows(2).all(|pair| pair[0].end < pair[1].start), "{set}");
            prop_assert_eq!(set.to_string().parse(), Ok(set));
        }

        #[test]
        fn difference_has_the_positions_of_one_set_only(one in inserted(), other in inserted()) {
            let ((set, positions), (removed, others)) = (set_and_positions(one), set_and_positions(other));
            prop_assert_eq!(set.union(&removed).count(), positions.union(&others).count() as u64);
            let left = set.difference(&removed);
            let found: Vec<_> = left.ranges().cloned().flatten().collect();
            let expected: Vec<_> = positions.difference(&others).copied().collect();
            prop_assert_eq!(found, expected);
            prop_assert!(left.0.windows(2).all(|pair| pair[0].end < pair[1].start), "{left}");
        }
    }

    #[test]
    fn malformed_ranges_are_rejected() {
        for text in ["5", "a-b", "1-2;3-4", "-", "1--2"] {
            assert!(text.parse::<RangeSet>().is_err(), "{text}");
        }
    }
}
