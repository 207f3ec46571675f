//! Splits outbox chunks into batches. Batch boundaries are the same in each process and do not depend on acknowledgements, so
//! a repeated batch keeps its idempotency key. Pure.
//!
//! A batch that is too large for the publisher is sent as two halves. A resumed run recognises such a batch by an
//! acknowledged half. Without one, it sends the whole batch once more.

use std::ops::Range;

use crate::run::range_set::RangeSet;

/// Returns the halves of a batch in order, or `None` for a single record.
#[must_use]
pub fn halves(range: &Range<usize>) -> Option<[Range<usize>; 2]> {
    let middle = range.start + range.len() / 2;
    (middle > range.start).then_some([range.start..middle, middle..range.end])
}

/// Returns the unacknowledged batches of `range`, in order.
#[must_use]
pub fn batches(range: &Range<usize>, size: usize, acknowledged: &RangeSet) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    for start in range.clone().step_by(size.max(1)) {
        push_remaining(
            &(start..range.end.min(start + size.max(1))),
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
    fn boundaries_do_not_depend_on_acknowledged_records() {
        assert_eq!(batches(&(0..25), 10, &acknowledged("")), [0..10, 10..20, 20..25]);
        assert_eq!(batches(&(0..25), 10, &acknowledged("10-20")), [0..10, 20..25]);
        assert_eq!(batches(&(0..25), 10, &acknowledged("0-10,20-25")), vec![10..20]);
        assert!(batches(&(0..25), 10, &acknowledged("0-25")).is_empty());
    }

    #[test]
    fn other_half_of_a_split_batch_remains() {
        assert_eq!(batches(&(0..20), 10, &acknowledged("0-5")), [5..10, 10..20]);
        assert_eq!(batches(&(0..20), 10, &acknowledged("0-2,10-20")), [2..5, 5..10]);
    }

    proptest! {
        #[test]
        fn remaining_batches_equal_batches_sent_before(
            records in 1_usize..200,
            size in 1_usize..50,
            splits in prop::collection::vec(any::<bool>(), 400),
            acked in prop::collection::vec(any::<bool>(), 400),
        ) {
            // A remaining batch is one that was in flight before, for any splits and acknowledgements.
            let (mut splits, mut acked) = (splits.into_iter(), acked.into_iter());
            let mut before = batches(&(0..records), size, &RangeSet::default());
            let mut at = 0;
            while at < before.len() {
                match halves(&before[at]).filter(|_| splits.next() == Some(true)) {
                    Some(halves) => drop(before.splice(at..=at, halves)),
                    None => at += 1,
                }
            }
            let mut done = RangeSet::default();
            let (done_batches, open): (Vec<_>, Vec<_>) = before.into_iter().partition(|_| acked.next() == Some(true));
            done_batches.iter().for_each(|range| done.insert(range.clone()));
            let after = batches(&(0..records), size, &done);
            let records_in = |batches: &[Range<usize>]| batches.iter().cloned().flatten().collect::<Vec<_>>();
            prop_assert_eq!(records_in(&after), records_in(&open), "in order, each once, nothing else");
            for batch in &after {
                let within = |open: &Range<usize>| batch.start <= open.start && open.end <= batch.end;
                prop_assert!(open.contains(batch) || open.iter().any(within), "{batch:?} splits a batch");
            }
        }
    }
}
