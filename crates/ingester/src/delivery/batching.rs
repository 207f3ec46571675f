//! Where what waits is cut into batches: at the same places in each process, whatever is accounted for already, so that
//! what is posted again goes out under the key that it went out under before. Pure; it sends nothing.
//!
//! A batch that the publisher finds too large goes out as its halves, one after the other. A process that takes the run
//! up recognises such a batch by the halves that are accounted for. Where none is yet, it offers the whole once more.

use std::ops::Range;

use crate::run::range_set::RangeSet;

/// The halves of a batch, in order; none of a single record.
#[must_use]
pub fn halves(range: &Range<usize>) -> Option<[Range<usize>; 2]> {
    let middle = range.start + range.len() / 2;
    (middle > range.start).then_some([range.start..middle, middle..range.end])
}

/// What is left to deliver of `places`, in order: each part goes out as one batch.
#[must_use]
pub fn batches(range: &Range<usize>, batch: usize, acknowledged: &RangeSet) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    for start in range.clone().step_by(batch.max(1)) {
        push_remaining(
            &(start..range.end.min(start + batch.max(1))),
            acknowledged,
            &mut batches,
        );
    }
    batches
}

fn push_remaining(range: &Range<usize>, acknowledged: &RangeSet, batches: &mut Vec<Range<usize>>) {
    if acknowledged.contains(range) {
        return;
    }
    match halves(range).filter(|_| acknowledged.intersects(range)) {
        Some(halves) => halves
            .iter()
            .for_each(|half| push_remaining(half, acknowledged, batches)),
        None => batches.push(range.clone()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acknowledged(text: &str) -> RangeSet {
        text.parse().unwrap()
    }

    #[test]
    fn a_page_is_cut_at_the_same_places_whatever_is_accounted_for() {
        assert_eq!(batches(&(0..25), 10, &acknowledged("")), [0..10, 10..20, 20..25]);
        assert_eq!(batches(&(0..25), 10, &acknowledged("10-20")), [0..10, 20..25]);
        assert_eq!(batches(&(0..25), 10, &acknowledged("0-10,20-25")), vec![10..20]);
        assert!(batches(&(0..25), 10, &acknowledged("0-25")).is_empty());
    }

    #[test]
    fn of_a_batch_that_went_out_in_halves_the_other_halves_are_left() {
        assert_eq!(batches(&(0..20), 10, &acknowledged("0-5")), [5..10, 10..20]);
        assert_eq!(batches(&(0..20), 10, &acknowledged("0-2,10-20")), [2..5, 5..10]);
    }

    proptest! {
        #[test]
        fn the_parts_are_what_is_left_and_each_was_one_before(
            records in 1_usize..200,
            batch in 1_usize..50,
            splits in prop::collection::vec(any::<bool>(), 400),
            kept in prop::collection::vec(any::<bool>(), 400),
        ) {
            // Whatever was halved and whatever was answered: what comes next is among what was on its way before.
            let (mut splits, mut kept) = (splits.into_iter(), kept.into_iter());
            let mut before = batches(&(0..records), batch, &RangeSet::default());
            let mut at = 0;
            while at < before.len() {
                match halves(&before[at]).filter(|_| splits.next() == Some(true)) {
                    Some(halves) => drop(before.splice(at..=at, halves)),
                    None => at += 1,
                }
            }
            let mut done = RangeSet::default();
            let (answered, open): (Vec<_>, Vec<_>) = before.into_iter().partition(|_| kept.next() == Some(true));
            answered.iter().for_each(|range| done.insert(range.clone()));
            let after = batches(&(0..records), batch, &done);
            let range = |batches: &[Range<usize>]| batches.iter().cloned().flatten().collect::<Vec<_>>();
            prop_assert_eq!(range(&after), range(&open), "in spec, each once, nothing else");
            for part in &after {
                let together = |open: &Range<usize>| part.start <= open.start && open.end <= part.end;
                prop_assert!(open.contains(part) || open.iter().any(together), "{part:?} cuts a batch");
            }
        }
    }
}
