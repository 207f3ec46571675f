//! Checkpoint changes by the operator. Each result supersedes the old epoch; `None` means that there is nothing to
//! change.
//!
//! Pure. The caller must ensure that no member writes checkpoints.

use uuid::Uuid;

use crate::checkpoint::{Checkpoint, PartitionInfo, new_checkpoint};
use crate::dead_letters::stats::DeadLetterStats;
use crate::pipeline::write_timestamp::MaxSeen;

/// Returns the checkpoint from which the records at and after `offset` are written again, as far as the log holds
/// them.
///
/// A replay never moves a checkpoint forward, because records would be skipped. `max_seen` is kept and the last write
/// timestamp is cleared, so no record gets a larger write timestamp than before. A recreated topic is read from its
/// beginning.
pub fn replay(info: &PartitionInfo, offset: i64, now: i64) -> Option<Checkpoint> {
    let found = info.checkpoint?;
    let same_topic = found.is_of_topic(info.topic_id);
    let same_table = found.table_id == info.table_id;
    let max_seen = found.position.max_seen;
    let (reached, high_offset, ceiling) = if same_topic {
        (found.position.next_offset, max_seen.offset, max_seen.ceiling)
    } else {
        (info.beginning, 0, None)
    };
    let to = offset.min(reached).clamp(info.beginning, info.end);
    if same_topic && same_table && to == reached {
        return None;
    }
    let max_seen = MaxSeen {
        // A truncated log gets other records above its end, which must win over the lost ones.
        offset: high_offset.min(info.end),
        write_timestamp: max_seen.write_timestamp,
        ceiling,
    };
    Some(new_checkpoint(info, to, max_seen, found.next_epoch(now)))
}

/// Assigns the checkpoint to the table `table_id`, which lacks the rows written before.
pub fn accept_table(found: &Checkpoint, table_id: Uuid, now: i64) -> Option<Checkpoint> {
    (found.table_id != table_id).then(|| Checkpoint {
        table_id,
        epoch: found.next_epoch(now),
        ..*found
    })
}

/// Clears the checkpoint's dead-letter statistics.
pub fn reset_limits(found: &Checkpoint, now: i64) -> Option<Checkpoint> {
    let mut position = found.position;
    position.dead_letters = DeadLetterStats::default();
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
    use crate::pipeline::position::Position;
    use crate::pipeline::write_timestamp::HybridClock;

    const TOPIC: Uuid = Uuid::from_u128(1);
    const TABLE: Uuid = Uuid::from_u128(2);
    const OTHER: Uuid = Uuid::from_u128(9);
    const NOW: i64 = 1_800_000_000_000_000;

    fn checkpoint(next_offset: i64) -> Checkpoint {
        Checkpoint {
            partition: 3,
            position: Position {
                next_offset,
                leader_epoch: None,
                last_write_timestamp: Some(70),
                max_seen: MaxSeen {
                    offset: 90,
                    write_timestamp: Some(77),
                    ceiling: Some(60),
                },
                dead_letters: DeadLetterStats {
                    consecutive: 2,
                    ratio: 7,
                },
            },
            epoch: 1_000,
            topic_id: TOPIC,
            table_id: TABLE,
        }
    }

    fn info(checkpoint: Checkpoint) -> PartitionInfo {
        PartitionInfo {
            partition: 3,
            checkpoint: Some(checkpoint),
            group_has_checkpoints: true,
            earlier_write_timestamp: None,
            topic_id: TOPIC,
            table_id: TABLE,
            beginning: 10,
            end: 100,
            truncated: false,
            committed: None,
        }
    }

    #[test]
    fn replay_moves_back_and_keeps_max_seen() {
        let moved = replay(&info(checkpoint(80)), 20, NOW).unwrap();
        assert_eq!(moved.position.next_offset, 20);
        assert_eq!(moved.position.last_write_timestamp, None);
        assert_eq!(moved.position.max_seen, checkpoint(80).position.max_seen);
        assert_eq!(moved.position.dead_letters, DeadLetterStats::default());
        assert_eq!((moved.topic_id, moved.table_id), (TOPIC, TABLE));
        assert!(moved.write_timestamp() > checkpoint(80).write_timestamp());
    }

    #[test]
    fn replay_supersedes_the_checkpoint_despite_a_slow_clock() {
        let moved = replay(&info(checkpoint(80)), 20, 0).unwrap();
        assert!(moved.write_timestamp() > checkpoint(80).write_timestamp());
    }

    #[test]
    fn replay_starts_at_the_first_offset_of_the_log() {
        let moved = replay(&info(checkpoint(80)), 0, NOW).unwrap();
        assert_eq!(moved.position.next_offset, 10);
    }

    #[test]
    fn replay_never_moves_forward() {
        for offset in [80, 81, 100, 500] {
            assert_eq!(replay(&info(checkpoint(80)), offset, NOW), None);
        }
        let never_read = PartitionInfo {
            checkpoint: None,
            ..info(checkpoint(80))
        };
        assert_eq!(replay(&never_read, 20, NOW), None);
    }

    #[test]
    fn replay_assigns_the_present_table() {
        let lost = PartitionInfo {
            table_id: OTHER,
            ..info(checkpoint(80))
        };
        for (offset, next_offset) in [(0, 10), (50, 50), (95, 80)] {
            let moved = replay(&lost, offset, NOW).unwrap();
            assert_eq!((moved.position.next_offset, moved.table_id), (next_offset, OTHER));
        }
    }

    #[test]
    fn replay_of_a_recreated_topic_starts_at_its_beginning() {
        let recreated = PartitionInfo {
            topic_id: OTHER,
            ..info(checkpoint(80))
        };
        let moved = replay(&recreated, 50, NOW).unwrap();
        assert_eq!((moved.position.next_offset, moved.topic_id), (10, OTHER));
        let max_seen = MaxSeen {
            offset: 0,
            write_timestamp: Some(77),
            ceiling: None,
        };
        assert_eq!(moved.position.max_seen, max_seen);
    }

    #[test]
    fn replay_of_a_truncated_log_stamps_above_lost_records() {
        let shorter = PartitionInfo {
            end: 60,
            ..info(checkpoint(80))
        };
        let moved = replay(&shorter, 90, NOW).unwrap();
        assert_eq!(moved.position.next_offset, 60);
        assert_eq!(moved.position.max_seen.offset, 60);
    }

    #[test]
    fn accept_table_keeps_the_position_and_is_idempotent() {
        let accepted = accept_table(&checkpoint(80), OTHER, NOW).unwrap();
        assert_eq!(accepted.position, checkpoint(80).position);
        assert_eq!((accepted.table_id, accepted.epoch), (OTHER, NOW));
        assert_eq!(accept_table(&accepted, OTHER, NOW), None);
    }

    #[test]
    fn reset_limits_keeps_the_position_and_is_idempotent() {
        let resumed = reset_limits(&checkpoint(80), NOW).unwrap();
        assert_eq!(resumed.position.dead_letters, DeadLetterStats::default());
        assert_eq!(resumed.position.last_write_timestamp, Some(70));
        assert!(resumed.write_timestamp() > checkpoint(80).write_timestamp());
        assert_eq!(reset_limits(&resumed, NOW), None);
    }

    proptest! {
        #[test]
        fn repeated_replays_never_exceed_the_first_timestamps(
            timestamps in proptest::collection::vec(0..NOW, 2..60),
            turns in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..5),
        ) {
            let end = i64::try_from(timestamps.len()).unwrap();
            let stamp_all = |from: i64, to: i64, position: Position| {
                let mut clock = HybridClock::resume(position.last_write_timestamp, position.max_seen);
                let stamps: Vec<_> = (from..to)
                    .map(|offset| clock.next(offset, timestamps[usize::try_from(offset).unwrap()], NOW).micros)
                    .collect();
                let end = Position { next_offset: to, last_write_timestamp: clock.last(), max_seen: clock.max_seen(), ..position };
                (stamps, end)
            };
            let start = Position {
                next_offset: 0,
                leader_epoch: None,
                last_write_timestamp: None,
                max_seen: MaxSeen::default(),
                dead_letters: DeadLetterStats::default(),
            };
            let (first, reached) = stamp_all(0, end, start);
            let mut at = Checkpoint { position: reached, ..checkpoint(0) };
            for (back, stop) in turns {
                let info = PartitionInfo { beginning: 0, end, ..info(at) };
                let requested = i64::try_from(back.index(timestamps.len() + 1)).unwrap();
                if let Some(moved) = replay(&info, requested, NOW) {
                    prop_assert!(moved.write_timestamp() > at.write_timestamp());
                    at = moved;
                }
                let from = at.position.next_offset;
                let to = from + i64::try_from(stop.index(usize::try_from(end - from).unwrap() + 1)).unwrap();
                let (again, reached) = stamp_all(from, to, at.position);
                let skip = usize::try_from(from).unwrap();
                prop_assert!(again.iter().zip(&first[skip..]).all(|(again, first)| again <= first));
                prop_assert_eq!(reached.max_seen, MaxSeen { offset: end, write_timestamp: first.last().copied(), ceiling: None });
                at.position = reached;
            }
        }
    }
}
