//! Proves that a partition holds nothing between its last record and the log's end: transaction markers and compacted
//! tails have offsets and hold no record, so a checkpoint would never come to the end.
//!
//! The proof: the consumer rests at the end; the log's end is asked, and it is further; the consumer rests on, for a
//! record may just be on its way; then the stretch up to there is read once more, and the end is reached again without a
//! record. Pure: asking and reading are the consumer's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a partition rests at its end before the log's own end is asked for, and again before what lies between is
/// read. Reading it again throws away what has been fetched meanwhile and waits for the fetch under way.
const AT_REST: Duration = Duration::from_secs(2);

/// The partitions whose end was reached.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<i32, AtEnd>);

#[derive(Debug)]
struct AtEnd {
    since: Instant,
    step: Step,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Resting,
    /// The log's end lay further on, and since then no record has come.
    Further(i64),
    /// What lies before the log's end is read once more.
    Reading(i64),
}

/// What the consumer is to do for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask for the log's end.
    Ask(i32),
    /// Read once more from where the partition rests.
    Read(i32),
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
        let resting = AtEnd {
            since: now,
            step: Step::Resting,
        };
        let at_end = self.0.entry(partition).or_insert(resting);
        let Step::Reading(end) = at_end.step else {
            return None;
        };
        self.rest(partition, now);
        Some(end)
    }

    /// A partition that has rested, and what is next for it.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        self.0.iter().find_map(|(partition, at_end)| match at_end.step {
            _ if now - at_end.since < AT_REST => None,
            Step::Resting => Some(Due::Ask(*partition)),
            Step::Further(_) => Some(Due::Read(*partition)),
            Step::Reading(_) => None,
        })
    }

    /// Nothing lies between, as far as could be told.
    pub(super) fn rest(&mut self, partition: i32, now: Instant) {
        self.set(partition, now, Step::Resting);
    }

    /// The log ends at `end`, further than the last record read.
    pub(super) fn further(&mut self, partition: i32, now: Instant, end: i64) {
        self.set(partition, now, Step::Further(end));
    }

    /// What lies before the end that was asked for is being read once more.
    pub(super) fn reading(&mut self, partition: i32) {
        if let Some(at_end) = self.0.get_mut(&partition)
            && let Step::Further(end) = at_end.step
        {
            at_end.step = Step::Reading(end);
        }
    }

    fn set(&mut self, partition: i32, since: Instant, step: Step) {
        self.0.insert(partition, AtEnd { since, step });
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
        assert_eq!(ends.due(later), Some(Due::Ask(3)));
        ends.further(3, later, 9);
        assert_eq!(ends.reached(3, later), None, "it was not read once more");
        let later = later + AT_REST;
        assert_eq!(ends.due(later), Some(Due::Read(3)));
        ends.reading(3);
        assert_eq!(ends.due(later + AT_REST), None, "it is being proven");
        assert_eq!(ends.reached(3, later), Some(9));
        assert_eq!(ends.reached(3, later), None, "once");
        assert_eq!(ends.due(later + AT_REST), Some(Due::Ask(3)));
    }

    #[test]
    fn a_record_on_the_way_is_no_proof() {
        let (mut ends, now) = (Ends::default(), Instant::now());
        ends.further(3, now, 9);
        ends.reading(3);
        ends.left(3);
        assert_eq!(ends.reached(3, now), None);
    }

    /// The log's end is further in the moment in which a record comes: it must not be read a second time for that.
    #[test]
    fn a_record_on_the_way_is_waited_for_before_anything_is_read_again() {
        let (mut ends, start) = (Ends::default(), Instant::now());
        ends.further(3, start, 9);
        assert_eq!(ends.due(start + AT_REST / 2), None);
        ends.left(3);
        assert_eq!(ends.due(start + AT_REST), None);
    }
}
