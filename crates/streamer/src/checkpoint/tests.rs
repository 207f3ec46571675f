use super::*;
use crate::clock::HybridClock;

const TOPIC: Uuid = Uuid::from_u128(1);
const TABLE: Uuid = Uuid::from_u128(2);
const NOW: i64 = 1_800_000_000_000_000;

fn known(checkpoint: Option<Checkpoint>) -> Known {
    Known {
        partition: 3,
        checkpoint,
        group_has_checkpoints: checkpoint.is_some(),
        topic_id: TOPIC,
        table_id: TABLE,
        beginning: 10,
        end: 100,
        committed: None,
    }
}

fn checkpoint(next_offset: i64) -> Checkpoint {
    let high = HighMark {
        offset: 90,
        stamp: Some(77),
        ceiling: Some(60),
    };
    let position = Position {
        next_offset,
        last_stamp: Some(70),
        high,
        tally: Tally {
            in_a_row: 2,
            share: 7,
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
fn a_checkpoint_within_the_topic_is_gone_on_from_as_it_is() {
    for next_offset in [10, 50, 100] {
        let found = checkpoint(next_offset);
        let start = start(&known(Some(found)), &CheckpointSettings::default(), NOW).unwrap();
        assert_eq!(
            start,
            Start {
                checkpoint: found,
                because: Because::Checkpoint
            }
        );
    }
}

#[test]
fn without_a_checkpoint_the_policy_decides() {
    let at = |on_missing, known: Known| {
        start(&known, &policy(on_missing, OnOutOfRange::Fail), NOW)
            .map(|start| start.checkpoint.position.next_offset)
    };
    let none = known(None);
    assert_eq!(at(OnMissing::Earliest, none), Ok(10));
    assert_eq!(at(OnMissing::Latest, none), Ok(100));
    assert_eq!(
        at(
            OnMissing::Group,
            Known {
                committed: Some(42),
                ..none
            }
        ),
        Ok(42)
    );
    assert_eq!(
        at(OnMissing::Group, none),
        Err(NoStart::NothingCommitted { partition: 3 })
    );
    assert_eq!(at(OnMissing::Fail, none), Err(NoStart::Missing { partition: 3 }));
    let lost = at(
        OnMissing::Group,
        Known {
            committed: Some(5),
            ..none
        },
    );
    assert_eq!(
        lost,
        Err(NoStart::OutOfRange {
            partition: 3,
            next_offset: 5,
            beginning: 10,
            end: 100
        })
    );
}

#[test]
fn what_is_taken_over_from_another_consumer_is_stamped_above_all_that_it_has_written() {
    let taken_over = Known {
        committed: Some(42),
        ..known(None)
    };
    let start = start(&taken_over, &policy(OnMissing::Group, OnOutOfRange::Fail), NOW).unwrap();
    let Position { last_stamp, high, .. } = start.checkpoint.position;
    let mut clock = HybridClock::resume(last_stamp, high);
    // Written to the topic a minute before the other consumer stopped, and not read by it.
    assert_eq!(clock.stamp(42, NOW - 60_000_000, NOW).micros, NOW + 1);
    assert_eq!(clock.stamp(43, NOW + 5, NOW).micros, NOW + 5);
    // A replay from before gives what the other consumer has read the stamps of its own time.
    let replayed = deliberate::replay(
        &Known {
            checkpoint: Some(start.checkpoint),
            ..taken_over
        },
        10,
        NOW,
    )
    .unwrap();
    let Position { last_stamp, high, .. } = replayed.position;
    let mut clock = HybridClock::resume(last_stamp, high);
    assert_eq!(clock.stamp(41, NOW - 70_000_000, NOW).micros, NOW - 70_000_000);
    assert_eq!(clock.stamp(42, NOW - 60_000_000, NOW).micros, NOW + 1);
}

#[test]
fn latest_holds_only_while_the_group_has_no_checkpoint_at_all() {
    let added = Known {
        group_has_checkpoints: true,
        ..known(None)
    };
    let start = start(&added, &policy(OnMissing::Latest, OnOutOfRange::Fail), NOW).unwrap();
    assert_eq!(start.checkpoint.position.next_offset, 10);
}

#[test]
fn a_recreated_topic_is_read_from_its_beginning_above_the_old_stamps() {
    let now_another = Known {
        topic_id: Uuid::from_u128(9),
        ..known(Some(checkpoint(50)))
    };
    let start = start(&now_another, &CheckpointSettings::default(), NOW).unwrap();
    assert_eq!(start.because, Because::Recreated);
    assert_eq!(start.checkpoint.position.next_offset, 10);
    assert_eq!(start.checkpoint.position.last_stamp, None);
    assert_eq!(
        start.checkpoint.position.high,
        HighMark {
            offset: 0,
            stamp: Some(77),
            ceiling: None
        }
    );
    assert_eq!(start.checkpoint.topic_id, Uuid::from_u128(9));
    assert_eq!(start.checkpoint.epoch, NOW);
}

#[test]
fn a_new_epoch_supersedes_the_old_one_also_when_the_clock_is_behind() {
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
fn another_table_stops_the_start_with_the_choice() {
    let other = Known {
        table_id: Uuid::from_u128(9),
        ..known(Some(checkpoint(50)))
    };
    let error = start(&other, &CheckpointSettings::default(), NOW).unwrap_err();
    assert!(error.to_string().contains("streamer replay"));
    assert!(error.to_string().contains("streamer accept-table"));
}

#[test]
fn a_checkpoint_outside_the_topic_fails_unless_told_otherwise() {
    for next_offset in [9, 101] {
        let lost = known(Some(checkpoint(next_offset)));
        let fails = start(&lost, &CheckpointSettings::default(), NOW);
        assert_eq!(
            fails,
            Err(NoStart::OutOfRange {
                partition: 3,
                next_offset,
                beginning: 10,
                end: 100
            })
        );
        let earliest = start(&lost, &policy(OnMissing::Fail, OnOutOfRange::Earliest), NOW).unwrap();
        assert_eq!(earliest.checkpoint.position.next_offset, 10);
        let latest = start(&lost, &policy(OnMissing::Fail, OnOutOfRange::Latest), NOW).unwrap();
        assert_eq!(latest.checkpoint.position.next_offset, 100);
        assert!(latest.checkpoint.write_timestamp() > lost.checkpoint.unwrap().write_timestamp());
    }
}
