//! Proves that a partition holds nothing between its last record and the log's end: transaction markers and compacted
//! tails have offsets and hold no record, so a checkpoint would never come to the end.
//!
//! The proof: the consumer rests at the end; the log's end is asked; the stretch up to there is read once more; the end is
//! reached again without a record. Pure: asking and reading are the consumer's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a partition rests at its end before the log's own end is asked for.
const AT_REST: Duration = Duration::from_secs(2);

/// The partitions whose end was reached.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<i32, AtEnd>);

#[derive(Debug)]
struct AtEnd {
    since: Instant,
    /// The log's end, asked before the read that is to prove that nothing lies in between.
    proving: Option<i64>,
}

impl Ends {
    /// Another assignment: nothing is known.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// A record of `partition` was read, or it is read no more.
    pub(super) fn left(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    /// The consumer is at the end of `partition`. The log's end, if nothing lies before it: that is proven now.
    pub(super) fn reached(&mut self, partition: i32, now: Instant) -> Option<i64> {
        let Some(at_end) = self.0.get_mut(&partition) else {
            self.rest(partition, now, None);
            return None;
        };
        let proven = at_end.proving.take();
        if proven.is_some() {
            at_end.since = now;
        }
        proven
    }

    /// A partition whose log's end is to be asked for.
    pub(super) fn due(&self, now: Instant) -> Option<i32> {
        let due = |at_end: &AtEnd| at_end.proving.is_none() && now - at_end.since >= AT_REST;
        self.0
            .iter()
            .find(|(_, at_end)| due(at_end))
            .map(|(partition, _)| *partition)
    }

    /// The end was asked for; `proving`: it is further, and what lies before it is read once more.
    pub(super) fn rest(&mut self, partition: i32, now: Instant, proving: Option<i64>) {
        self.0.insert(partition, AtEnd { since: now, proving });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_proven_by_reaching_it_again_without_a_record() {
        let (mut ends, start) = (Ends::default(), Instant::now());
        assert_eq!(ends.reached(3, start), None);
        assert_eq!(ends.due(start), None, "it has not rested");
        let later = start + AT_REST;
        assert_eq!(ends.due(later), Some(3));
        ends.rest(3, later, Some(9));
        assert_eq!(ends.due(later + AT_REST), None, "it is being proven");
        assert_eq!(ends.reached(3, later), Some(9));
        assert_eq!(ends.reached(3, later), None, "once");
    }

    #[test]
    fn a_record_on_the_way_is_no_proof() {
        let (mut ends, now) = (Ends::default(), Instant::now());
        ends.rest(3, now, Some(9));
        ends.left(3);
        assert_eq!(ends.reached(3, now), None);
    }
}
