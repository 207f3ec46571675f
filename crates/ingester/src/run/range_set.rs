//! Which records of a page the publisher has accounted for. Batches are under way side by side, so these need not be
//! the first ones. Pure; holds no record.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Places of records, as ranges: in order, apart from each other, none of them empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(Vec<Range<usize>>);

impl RangeSet {
    /// These are accounted for, too.
    pub fn add(&mut self, places: Range<usize>) {
        if places.is_empty() {
            return;
        }
        let Range { mut start, mut end } = places;
        self.0.retain(|known| {
            let apart = known.end < start || end < known.start;
            if !apart {
                (start, end) = (start.min(known.start), end.max(known.end));
            }
            apart
        });
        let behind = self.0.partition_point(|known| known.end < start);
        self.0.insert(behind, start..end);
    }

    /// Whether all of `places` are.
    #[must_use]
    pub fn holds(&self, places: &Range<usize>) -> bool {
        let around = |known: &Range<usize>| known.start <= places.start && places.end <= known.end;
        places.is_empty() || self.0.iter().any(around)
    }

    /// Whether any of `places` is.
    #[must_use]
    pub fn meets(&self, places: &Range<usize>) -> bool {
        let known = self.0.iter();
        known
            .map(|known| known.start.max(places.start)..known.end.min(places.end))
            .any(|both| !both.is_empty())
    }
}

/// `0-1000,2000-3000`; each range ends before its second number.
impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, places) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}-{}", places.start, places.end)?;
        }
        Ok(())
    }
}

impl FromStr for RangeSet {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut accounted = Self::default();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let ends = range.split_once('-');
            let ends = ends.and_then(|(start, end)| Some(start.parse().ok()?..end.parse().ok()?));
            accounted.add(ends.ok_or("ranges are START-END, with commas between them")?);
        }
        Ok(accounted)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_knows_what_it_was_told_in_whatever_order_and_is_read_as_it_is_written(
            told in prop::collection::vec((0_usize..60, 0_usize..20), 0..12),
            asked in (0_usize..70, 0_usize..30),
        ) {
            let (mut accounted, mut places) = (RangeSet::default(), BTreeSet::new());
            for (start, records) in told {
                accounted.add(start..start + records);
                places.extend(start..start + records);
            }
            let asked = asked.0..asked.0 + asked.1;
            prop_assert_eq!(accounted.holds(&asked), asked.clone().all(|place| places.contains(&place)));
            let meets = places.iter().any(|place| asked.contains(place));
            prop_assert_eq!(accounted.meets(&asked), meets);
            prop_assert!(accounted.0.windows(2).all(|two| two[0].end < two[1].start), "{accounted}");
            prop_assert_eq!(accounted.to_string().parse(), Ok(accounted));
        }
    }

    #[test]
    fn what_is_no_list_of_ranges_is_refused() {
        for text in ["5", "a-b", "1-2;3-4", "-", "1--2"] {
            assert!(text.parse::<RangeSet>().is_err(), "{text}");
        }
    }
}
