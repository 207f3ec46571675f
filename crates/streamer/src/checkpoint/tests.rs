//! Tests of the start offset that follows from a checkpoint.

use super::*;
use crate::pipeline::write_timestamp::HybridClock;

const TOPIC: Uuid = Uuid::from_u128(1);
const TABLE: Uuid = Uuid::from_u128(2);
const NOW: i64 = 1_800_000_000_000_000;

fn info(checkpoint: Option<Checkpoint>) -> PartitionInfo {
    PartitionInfo {
        partition: 3,
        checkpoint,
        group_has_checkpoints: checkpoint.is_some(),
        earlier_write_timestamp: None,
        topic_id: TOPIC,
        table_id: TABLE,
        beginning: 10,
        end: 100,
        truncated: false,
        committed: None,
    }
}

fn checkpoint(next_offset: i64) -> Checkpoint {
    let max_seen = MaxSeen {
        offset: 90,
        write_timestamp: Some(77),
        ceiling: Some(60),
    };
    let position = Position {
        next_offset,
        leader_epoch: None,
        last_write_timestamp: Some(70),
        max_seen,
        dead_letters: DeadLetterStats {
            consecutive: 2,
            ratio: 7,
        },
    };
    Checkpoint {
        partition: 3,
        position,
        epoch: 1_000,
        topic_id: TOPIC,
        table_id: TABLE,
    }
}

fn policy(on_missing: OnMissing, on_out_of_range: OnOutOfRange) -> CheckpointSettings {
    CheckpointSettings {
        on_missing,
        on_out_of_range,
        ..CheckpointSettings::default()
    }
}

#[test]
fn checkpoint_within_the_log_is_used_unchanged() {
    for next_offset in [10, 50, 100] {
        let found = checkpoint(next_offset);
        let start = resolve_start(&info(Some(found)), &CheckpointSettings::default(), NOW).unwrap();
        assert_eq!(
            start,
            ResolvedStart {
                checkpoint: found,
                reason: StartReason::Checkpoint
            }
        );
    }
}

#[test]
fn missing_checkpoint_follows_the_policy() {
    let at = |on_missing, info: PartitionInfo| {
        resolve_start(&info, &policy(on_missing, OnOutOfRange::Fail), NOW)
            .map(|start| start.checkpoint.position.next_offset)
    };
    let none = info(None);
    assert_eq!(at(OnMissing::Earliest, none), Ok(10));
    assert_eq!(at(OnMissing::Latest, none), Ok(100));
    assert_eq!(
        at(
            OnMissing::Group,
            PartitionInfo {
                committed: Some(42),
                ..none
            }
        ),
        Ok(42)
    );
    assert_eq!(
        at(OnMissing::Group, none),
        Err(StartError::NothingCommitted { partition: 3 })
    );
    assert_eq!(
        at(OnMissing::Fail, none),
        Err(StartError::Missing { partition: 3 })
    );
    let lost = at(
        OnMissing::Group,
        PartitionInfo {
            committed: Some(5),
            ..none
        },
    );
    assert_eq!(
        lost,
        Err(StartError::OutOfRange {
            partition: 3,
            next_offset: 5,
            beginning: 10,
            end: 100
        })
    );
}

#[test]
fn records_after_a_takeover_win_over_older_rows() {
    let taken_over = PartitionInfo {
        committed: Some(42),
        ..info(None)
    };
    let start = resolve_start(&taken_over, &policy(OnMissing::Group, OnOutOfRange::Fail), NOW).unwrap();
    let Position {
        last_write_timestamp,
        max_seen,
        ..
    } = start.checkpoint.position;
    let mut clock = HybridClock::resume(last_write_timestamp, max_seen);
    // Written to the topic a minute before the other consumer stopped, and not read by it.
    assert_eq!(clock.next(42, NOW - 60_000_000, NOW).micros, NOW + 1);
    assert_eq!(clock.next(43, NOW + 5, NOW).micros, NOW + 5);
    // An earlier replay gives the records that the other consumer has read the timestamps of their own time.
    let replayed = admin::replay(
        &PartitionInfo {
            checkpoint: Some(start.checkpoint),
            ..taken_over
        },
        10,
        NOW,
    )
    .unwrap();
    let Position {
        last_write_timestamp,
        max_seen,
        ..
    } = replayed.position;
    let mut clock = HybridClock::resume(last_write_timestamp, max_seen);
    assert_eq!(clock.next(41, NOW - 70_000_000, NOW).micros, NOW - 70_000_000);
    assert_eq!(clock.next(42, NOW - 60_000_000, NOW).micros, NOW + 1);
}

#[test]
fn latest_applies_only_to_a_group_without_checkpoints() {
    let added = PartitionInfo {
        group_has_checkpoints: true,
        ..info(None)
    };
    let start = resolve_start(&added, &policy(OnMissing::Latest, OnOutOfRange::Fail), NOW).unwrap();
    assert_eq!(start.checkpoint.position.next_offset, 10);
}

#[test]
fn recreated_topic_starts_at_its_beginning() {
    let now_another = PartitionInfo {
        topic_id: Uuid::from_u128(9),
        ..info(Some(checkpoint(50)))
    };
    let start = resolve_start(&now_another, &CheckpointSettings::default(), NOW).unwrap();
    assert_eq!(start.reason, StartReason::Recreated);
    assert_eq!(start.checkpoint.position.next_offset, 10);
    assert_eq!(start.checkpoint.position.last_write_timestamp, None);
    assert_eq!(
        start.checkpoint.position.max_seen,
        MaxSeen {
            offset: 0,
            write_timestamp: Some(77),
            ceiling: None
        }
    );
    assert_eq!(start.checkpoint.topic_id, Uuid::from_u128(9));
    assert_eq!(start.checkpoint.epoch, NOW);
}

/// The recreated topic has more partitions, so a key's records may be in another one than its rows' write timestamps.
#[test]
fn recreated_topic_starts_above_all_partitions_of_the_old_one() {
    let new_topic = Uuid::from_u128(9);
    let mut other = checkpoint(50);
    other.partition = 4;
    other.position.max_seen.write_timestamp = Some(99);
    let found = [checkpoint(50), other];
    let earlier_write_timestamp = earlier_write_timestamp(&found, new_topic);
    assert_eq!(earlier_write_timestamp, Some(99));
    for checkpoint in [Some(checkpoint(50)), None] {
        let partition = PartitionInfo {
            topic_id: new_topic,
            group_has_checkpoints: true,
            earlier_write_timestamp,
            ..info(checkpoint)
        };
        let settings = policy(OnMissing::Latest, OnOutOfRange::Fail);
        let position = resolve_start(&partition, &settings, NOW)
            .unwrap()
            .checkpoint
            .position;
        assert_eq!(position.next_offset, 10, "an added partition was never read");
        let mut clock = HybridClock::resume(position.last_write_timestamp, position.max_seen);
        assert_eq!(clock.next(10, 5, NOW).micros, 100);
    }
    assert_eq!(
        super::earlier_write_timestamp(&found, TOPIC),
        None,
        "the same topic"
    );
}

#[test]
fn new_epoch_supersedes_despite_a_slow_clock() {
    let found = checkpoint(50);
    let superseding = checkpoint(0);
    let superseding = Checkpoint {
        epoch: found.next_epoch(0),
        ..superseding
    };
    let mut zombie = found;
    zombie.position.next_offset += 100_000;
    assert!(superseding.write_timestamp() > zombie.write_timestamp());
}

#[test]
fn other_table_is_an_error_with_both_remedies() {
    let other = PartitionInfo {
        table_id: Uuid::from_u128(9),
        ..info(Some(checkpoint(50)))
    };
    let error = resolve_start(&other, &CheckpointSettings::default(), NOW).unwrap_err();
    assert!(error.to_string().contains("streamer replay"));
    assert!(error.to_string().contains("streamer accept-table"));
}

#[test]
fn checkpoint_outside_the_log_follows_the_policy() {
    for next_offset in [9, 101] {
        let lost = info(Some(checkpoint(next_offset)));
        let fails = resolve_start(&lost, &CheckpointSettings::default(), NOW);
        assert_eq!(
            fails,
            Err(StartError::OutOfRange {
                partition: 3,
                next_offset,
                beginning: 10,
                end: 100
            })
        );
        let earliest = resolve_start(&lost, &policy(OnMissing::Fail, OnOutOfRange::Earliest), NOW).unwrap();
        assert_eq!(earliest.checkpoint.position.next_offset, 10);
        let latest = resolve_start(&lost, &policy(OnMissing::Fail, OnOutOfRange::Latest), NOW).unwrap();
        assert_eq!(latest.checkpoint.position.next_offset, 100);
        assert!(latest.checkpoint.write_timestamp() > lost.checkpoint.unwrap().write_timestamp());
    }
}

#[test]
fn unknown_topic_id_is_no_recreated_topic() {
    let start = |checkpoint_id: Uuid, topic_id: Uuid| {
        let found = Checkpoint {
            topic_id: checkpoint_id,
            ..checkpoint(50)
        };
        let info = PartitionInfo {
            topic_id,
            ..info(Some(found))
        };
        assert_eq!(info.durable_range(), 10..50);
        resolve_start(&info, &CheckpointSettings::default(), NOW).unwrap()
    };
    for (checkpoint_id, topic_id, kept) in [
        (Uuid::nil(), TOPIC, TOPIC),
        (TOPIC, Uuid::nil(), TOPIC),
        (Uuid::nil(), Uuid::nil(), Uuid::nil()),
    ] {
        let start = start(checkpoint_id, topic_id);
        assert_eq!(start.reason, StartReason::Checkpoint);
        assert_eq!(start.checkpoint.position, checkpoint(50).position);
        assert_eq!(start.checkpoint.topic_id, kept, "a known id is kept");
    }
}
