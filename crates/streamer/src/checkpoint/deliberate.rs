//! What an operator may do to a checkpoint on purpose. Each result has an epoch that supersedes the one before; none
//! says that there is nothing to do.
//!
//! Pure, and true only while no member writes checkpoints: that is for the caller to see to.

use uuid::Uuid;

use crate::checkpoint::{Checkpoint, Known, fresh};
use crate::clock::HighMark;
use crate::tally::Tally;

/// The checkpoint from which the records at and after `offset` are written again, as far as the topic holds them.
///
/// A replay only goes back: a checkpoint before `offset` stays where it is, or records would be skipped. The highest
/// point ever reached is kept, and what is stamped below it has no predecessor, so that no stamp is larger than before.
/// Another topic of the name is read from its beginning, since none of it ever was.
pub fn replay(known: &Known, offset: i64, now: i64) -> Option<Checkpoint> {
    let found = known.checkpoint?;
    let same_topic = found.topic_id == known.topic_id;
    let same_table = found.table_id == known.table_id;
    let high = found.position.high;
    let (reached, high_offset, ceiling) = if same_topic {
        (found.position.next_offset, high.offset, high.ceiling)
    } else {
        (known.beginning, 0, None)
    };
    let to = offset.min(reached).clamp(known.beginning, known.end);
    if same_topic && same_table && to == reached {
        return None;
    }
    let high = HighMark {
        // Above the end of a log that lost its tail come other records than before: they must win over the lost ones.
        offset: high_offset.min(known.end),
        stamp: high.stamp,
        ceiling,
    };
    Some(fresh(known, to, high, found.next_epoch(now)))
}

/// The same point for the table `table_id`, which lacks the rows that were written before it.
pub fn accept_table(found: &Checkpoint, table_id: Uuid, now: i64) -> Option<Checkpoint> {
    (found.table_id != table_id).then(|| Checkpoint {
        table_id,
        epoch: found.next_epoch(now),
        ..*found
    })
}

/// The same point with no dead letters counted.
pub fn resume(found: &Checkpoint, now: i64) -> Option<Checkpoint> {
    let mut position = found.position;
    position.tally = Tally::default();
    (position != found.position).then(|| Checkpoint {
        position,
        epoch: found.next_epoch(now),
        ..*found
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::HybridClock;
    use crate::progress::Position;

    const TOPIC: Uuid = Uuid::from_u128(1);
    const TABLE: Uuid = Uuid::from_u128(2);
    const OTHER: Uuid = Uuid::from_u128(9);
    const NOW: i64 = 1_800_000_000_000_000;

    fn checkpoint(next_offset: i64) -> Checkpoint {
        Checkpoint {
            partition: 3,
            position: Position {
                next_offset,
                last_stamp: Some(70),
                high: HighMark {
                    offset: 90,
                    stamp: Some(77),
                    ceiling: Some(60),
                },
                tally: Tally {
                    in_a_row: 2,
                    share: 7,
                },
            },
            epoch: 1_000,
            topic_id: TOPIC,
            table_id: TABLE,
        }
    }

    fn known(checkpoint: Checkpoint) -> Known {
        Known {
            partition: 3,
            checkpoint: Some(checkpoint),
            group_has_checkpoints: true,
            topic_id: TOPIC,
            table_id: TABLE,
            beginning: 10,
            end: 100,
            committed: None,
        }
    }

    #[test]
    fn a_replay_goes_back_and_forgets_no_high_mark() {
        let moved = replay(&known(checkpoint(80)), 20, NOW).unwrap();
        assert_eq!(moved.position.next_offset, 20);
        assert_eq!(moved.position.last_stamp, None);
        assert_eq!(moved.position.high, checkpoint(80).position.high);
        assert_eq!(moved.position.tally, Tally::default());
        assert_eq!((moved.topic_id, moved.table_id), (TOPIC, TABLE));
        assert!(moved.write_timestamp() > checkpoint(80).write_timestamp());
    }

    #[test]
    fn a_replay_supersedes_the_checkpoint_also_when_the_clock_is_behind() {
        let moved = replay(&known(checkpoint(80)), 20, 0).unwrap();
        assert!(moved.write_timestamp() > checkpoint(80).write_timestamp());
    }

    #[test]
    fn a_replay_starts_at_what_the_topic_still_holds() {
        let moved = replay(&known(checkpoint(80)), 0, NOW).unwrap();
        assert_eq!(moved.position.next_offset, 10);
    }

    #[test]
    fn a_replay_skips_nothing() {
        for offset in [80, 81, 100, 500] {
            assert_eq!(replay(&known(checkpoint(80)), offset, NOW), None);
        }
        let never_read = Known {
            checkpoint: None,
            ..known(checkpoint(80))
        };
        assert_eq!(replay(&never_read, 20, NOW), None);
    }

    #[test]
    fn a_replay_gives_every_checkpoint_the_present_table() {
        let lost = Known {
            table_id: OTHER,
            ..known(checkpoint(80))
        };
        for (offset, next_offset) in [(0, 10), (50, 50), (95, 80)] {
            let moved = replay(&lost, offset, NOW).unwrap();
            assert_eq!((moved.position.next_offset, moved.table_id), (next_offset, OTHER));
        }
    }

    #[test]
    fn a_replay_of_another_topic_begins_at_its_beginning_above_the_old_stamps() {
        let recreated = Known {
            topic_id: OTHER,
            ..known(checkpoint(80))
        };
        let moved = replay(&recreated, 50, NOW).unwrap();
        assert_eq!((moved.position.next_offset, moved.topic_id), (10, OTHER));
        let high = HighMark {
            offset: 0,
            stamp: Some(77),
            ceiling: None,
        };
        assert_eq!(moved.position.high, high);
    }

    #[test]
    fn a_replay_of_a_log_that_lost_its_tail_stamps_what_comes_there_above_what_was_lost() {
        let shorter = Known {
            end: 60,
            ..known(checkpoint(80))
        };
        let moved = replay(&shorter, 90, NOW).unwrap();
        assert_eq!(moved.position.next_offset, 60);
        assert_eq!(moved.position.high.offset, 60);
    }

    #[test]
    fn accepting_a_table_moves_nothing_and_happens_once() {
        let accepted = accept_table(&checkpoint(80), OTHER, NOW).unwrap();
        assert_eq!(accepted.position, checkpoint(80).position);
        assert_eq!((accepted.table_id, accepted.epoch), (OTHER, NOW));
        assert_eq!(accept_table(&accepted, OTHER, NOW), None);
    }

    #[test]
    fn resuming_clears_the_tally_alone_and_happens_once() {
        let resumed = resume(&checkpoint(80), NOW).unwrap();
        assert_eq!(resumed.position.tally, Tally::default());
        assert_eq!(resumed.position.last_stamp, Some(70));
        assert!(resumed.write_timestamp() > checkpoint(80).write_timestamp());
        assert_eq!(resume(&resumed, NOW), None);
    }

    proptest! {
        #[test]
        fn replays_upon_replays_never_stamp_a_record_higher_than_the_first_time(
            timestamps in proptest::collection::vec(0..NOW, 2..60),
            turns in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..5),
        ) {
            let end = i64::try_from(timestamps.len()).unwrap();
            let stamp_all = |from: i64, to: i64, position: Position| {
                let mut clock = HybridClock::resume(position.last_stamp, position.high);
                let stamps: Vec<_> = (from..to)
                    .map(|offset| clock.stamp(offset, timestamps[usize::try_from(offset).unwrap()], NOW).micros)
                    .collect();
                let end = Position { next_offset: to, last_stamp: clock.last(), high: clock.high(), ..position };
                (stamps, end)
            };
            let start = Position {
                next_offset: 0,
                last_stamp: None,
                high: HighMark::default(),
                tally: Tally::default(),
            };
            let (first, reached) = stamp_all(0, end, start);
            let mut at = Checkpoint { position: reached, ..checkpoint(0) };
            for (back, stop) in turns {
                let known = Known { beginning: 0, end, ..known(at) };
                let asked = i64::try_from(back.index(timestamps.len() + 1)).unwrap();
                if let Some(moved) = replay(&known, asked, NOW) {
                    prop_assert!(moved.write_timestamp() > at.write_timestamp());
                    at = moved;
                }
                let from = at.position.next_offset;
                let to = from + i64::try_from(stop.index(usize::try_from(end - from).unwrap() + 1)).unwrap();
                let (again, reached) = stamp_all(from, to, at.position);
                let skip = usize::try_from(from).unwrap();
                prop_assert!(again.iter().zip(&first[skip..]).all(|(again, first)| again <= first));
                prop_assert_eq!(reached.high, HighMark { offset: end, stamp: first.last().copied(), ceiling: None });
                at.position = reached;
            }
        }
    }
}
