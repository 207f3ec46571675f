//! A set of record positions, stored as ranges. Tracks which records of a page are acknowledged. Batches are in flight
//! concurrently, so acknowledged records need not form a prefix. Pure.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Positions as sorted, disjoint, non-adjacent and non-empty ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(Vec<Range<usize>>);

impl RangeSet {
    /// Adds each position of `range`.
    pub fn insert(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        self.0.retain(|stored| {
            let disjoint = stored.end < start || end < stored.start;
            if !disjoint {
                (start, end) = (start.min(stored.start), end.max(stored.end));
            }
            disjoint
        });
        let index = self.0.partition_point(|stored| stored.end < start);
        self.0.insert(index, start..end);
    }

    /// Whether every position of `range` is in the set.
    #[must_use]
    pub fn contains(&self, range: &Range<usize>) -> bool {
        let covers = |stored: &Range<usize>| stored.start <= range.start && range.end <= stored.end;
        range.is_empty() || self.0.iter().any(covers)
    }

    /// Whether any position of `range` is in the set.
    #[must_use]
    pub fn intersects(&self, range: &Range<usize>) -> bool {
        let stored = self.0.iter();
        stored
            .map(|stored| stored.start.max(range.start)..stored.end.min(range.end))
            .any(|common| !common.is_empty())
    }
}

/// `0-1000,2000-3000`; the end of each range is exclusive.
impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}-{}", range.start, range.end)?;
        }
        Ok(())
    }
}

impl FromStr for RangeSet {
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

    proptest! {
        #[test]
        fn insertion_order_is_irrelevant_and_text_round_trips(
            inserted in prop::collection::vec((0_usize..60, 0_usize..20), 0..12),
            queried in (0_usize..70, 0_usize..30),
        ) {
            let (mut set, mut positions) = (RangeSet::default(), BTreeSet::new());
            for (start, records) in inserted {
                set.insert(start..start + records);
                positions.extend(start..start + records);
            }
            let queried = queried.0..queried.0 + queried.1;
            let contained = queried.clone().all(|position| positions.contains(&position));
            prop_assert_eq!(set.contains(&queried), contained);
            let intersects = positions.iter().any(|position| queried.contains(position));
            prop_assert_eq!(set.intersects(&queried), intersects);
            prop_assert!(set.0.windows(2).all(|pair| pair[0].end < pair[1].start), "{set}");
            prop_assert_eq!(set.to_string().parse(), Ok(set));
        }
    }

    #[test]
    fn malformed_ranges_are_rejected() {
        for text in ["5", "a-b", "1-2;3-4", "-", "1--2"] {
            assert!(text.parse::<RangeSet>().is_err(), "{text}");
        }
    }
}
