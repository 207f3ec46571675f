//! The latest record of each user in the topic. A dead letter must not replace the row of a later record.
//!
//! Write timestamps alone do not decide this. They increase with the log within one pass over it. A table that was
//! refilled from a later offset has its own write timestamps, which may be smaller than the dead letter's. Therefore
//! the log is read. Pure, except for [`read`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use uuid::Uuid;

use crate::admin::clients::{self, Clients};
use crate::admin::error::CommandError;
use crate::consumer::scan::ScannedRecord;
use crate::dead_letters::dead_letter::{PartitionOffset, SourceRecordId};

/// The latest records of the users with dead letters.
pub(super) struct LatestRecords {
    topic_id: Uuid,
    beginnings: Vec<i64>,
    /// The last valid record of each user in each partition.
    last: HashMap<(Uuid, i32), i64>,
    /// When the table was created; `None` if its id does not contain the time.
    table_since: Option<jiff::Timestamp>,
}

/// Why a dead letter must not be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Superseded {
    /// By this later record of the same user.
    By(PartitionOffset),
    /// Later records are deleted from the topic, and the table may have been refilled from some of them.
    Unknown,
}

impl LatestRecords {
    /// Creates the records of a topic that starts at `beginnings`, before it is read.
    pub(super) fn new(topic_id: Uuid, beginnings: Vec<i64>, table_id: Uuid) -> Self {
        Self {
            topic_id,
            beginnings,
            last: HashMap::new(),
            table_since: created(table_id),
        }
    }

    /// Adds the valid record of `user` at `position`.
    pub(super) fn add(&mut self, user: Uuid, position: PartitionOffset) {
        let last = self
            .last
            .entry((user, position.partition))
            .or_insert(position.offset);
        *last = position.offset.max(*last);
    }

    /// Returns whether a later record of `user` supersedes the dead letter written at `at`.
    pub(super) fn superseded(
        &self,
        origin: SourceRecordId,
        user: Uuid,
        at: jiff::Timestamp,
    ) -> Option<Superseded> {
        let PartitionOffset { partition, offset } = origin.position;
        let same_topic = origin.topic_id == self.topic_id;
        let mut later = self.last.iter().filter(|((of, in_partition), last)| {
            // All records of the present topic are later than those of an earlier topic of the same name.
            *of == user && (!same_topic || (*in_partition == partition && **last > offset))
        });
        if let Some(((_, partition), offset)) = later.next() {
            let (partition, offset) = (*partition, *offset);
            return Some(Superseded::By(PartitionOffset { partition, offset }));
        }
        let beginning = usize::try_from(partition)
            .ok()
            .and_then(|partition| self.beginnings.get(partition));
        let all_is_there = same_topic && beginning.is_some_and(|beginning| *beginning <= offset + 1);
        let read_in_order = self.table_since.is_some_and(|since| since < at);
        (!all_is_there && !read_in_order).then_some(Superseded::Unknown)
    }

    /// Returns the ranges to read for dead letters of `origins`: in each partition, everything after the first of
    /// them.
    fn ranges(
        &self,
        origins: impl Iterator<Item = SourceRecordId>,
        ends: &[i64],
    ) -> BTreeMap<i32, Range<i64>> {
        let mut ranges = BTreeMap::new();
        for origin in origins {
            for ((partition, beginning), end) in (0..).zip(&self.beginnings).zip(ends) {
                let from = if origin.topic_id != self.topic_id {
                    *beginning
                } else if origin.position.partition == partition {
                    (origin.position.offset + 1).max(*beginning)
                } else {
                    continue;
                };
                let range = ranges.entry(partition).or_insert(from..*end);
                range.start = range.start.min(from);
            }
        }
        ranges
    }
}

/// Reads the records after `origins` of these users. `user` returns the user of a valid record.
///
/// # Errors
/// When Kafka rejects a request, or does not respond in time.
pub(super) async fn read(
    clients: &Clients,
    table_id: Uuid,
    origins: impl Iterator<Item = SourceRecordId>,
    users: &HashSet<Uuid>,
    user: impl Fn(&ScannedRecord) -> Option<Uuid>,
) -> Result<LatestRecords, CommandError> {
    let (topic, watermarks) = clients.kafka(clients::watermarks).await?;
    let (beginnings, ends): (Vec<_>, Vec<_>) = watermarks.into_iter().unzip();
    let mut latest = LatestRecords::new(topic.id, beginnings, table_id);
    let mut scan = clients.scan(latest.ranges(origins, &ends))?;
    while let Some(records) = clients.next(&mut scan).await? {
        for record in records {
            let (partition, offset) = (record.partition, record.offset);
            if let Some(user) = user(&record).filter(|user| users.contains(user)) {
                latest.add(user, PartitionOffset { partition, offset });
            }
        }
    }
    Ok(latest)
}

/// Returns the creation time in the table's id, unless the cluster derives ids from names.
fn created(table_id: Uuid) -> Option<jiff::Timestamp> {
    let (seconds, nanoseconds) = table_id.get_timestamp()?.to_unix();
    jiff::Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::admin::replay;
    use crate::checkpoint::{Checkpoint, PartitionInfo};
    use crate::dead_letters::stats::DeadLetterStats;
    use crate::pipeline::offset_tracker::Position;
    use crate::pipeline::write_timestamp::HybridClock;

    const TOPIC: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(9);
    /// A version 1 id of the last day of 2019.
    const TABLE: Uuid = Uuid::from_u128(0x9ab4_4000_2c26_11ea_8000_0000_0000_0000);
    const USER: Uuid = Uuid::from_u128(7);

    fn origin(topic_id: Uuid, offset: i64) -> SourceRecordId {
        let partition = 0;
        SourceRecordId {
            topic_id,
            position: PartitionOffset { partition, offset },
        }
    }

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn only_a_later_record_of_the_same_user_supersedes() {
        let mut latest = LatestRecords::new(TOPIC, vec![0], TABLE);
        let position = |offset| PartitionOffset { partition: 0, offset };
        latest.add(USER, position(4));
        latest.add(OTHER, position(9));
        let now = at("2026-01-01T00:00:00Z");
        assert_eq!(
            latest.superseded(origin(TOPIC, 3), USER, now),
            Some(Superseded::By(position(4)))
        );
        assert_eq!(latest.superseded(origin(TOPIC, 4), USER, now), None);
        assert_eq!(
            latest.superseded(origin(OTHER, 99), USER, now),
            Some(Superseded::By(position(4))),
            "the present topic is later than the earlier one"
        );
    }

    #[test]
    fn deleted_log_requires_a_table_older_than_the_letter() {
        assert_eq!(
            created(TABLE).unwrap().to_string().split('T').next(),
            Some("2019-12-31")
        );
        let latest = LatestRecords::new(TOPIC, vec![10], TABLE);
        let (before, after) = (at("2019-06-01T00:00:00Z"), at("2020-06-01T00:00:00Z"));
        for deleted in [origin(TOPIC, 8), origin(OTHER, 50)] {
            assert_eq!(latest.superseded(deleted, USER, after), None);
            assert_eq!(
                latest.superseded(deleted, USER, before),
                Some(Superseded::Unknown)
            );
        }
        assert_eq!(latest.superseded(origin(TOPIC, 9), USER, before), None);
        let unknown = LatestRecords::new(TOPIC, vec![10], Uuid::from_u128(5));
        assert_eq!(
            unknown.superseded(origin(TOPIC, 8), USER, after),
            Some(Superseded::Unknown)
        );
    }

    /// The users of one partition with write timestamp and offset.
    type Table = HashMap<Uuid, (i64, i64)>;

    fn write(table: &mut Table, user: Uuid, write_timestamp: i64, offset: i64) {
        let row = table.entry(user).or_insert((write_timestamp, offset));
        *row = (write_timestamp, offset).max(*row);
    }

    #[derive(Clone, Copy, Debug)]
    struct Event {
        user: u128,
        timestamp: i64,
        dead: bool,
    }

    const NOW: i64 = 1_800_000_000_000_000;

    proptest! {
        #[test]
        fn redrive_after_a_refill_keeps_each_users_last_record(
            events in proptest::collection::vec(
                (0_u128..4, 0..1_000_i64, proptest::bool::weighted(0.3)), 1..40,
            ),
            refill in any::<prop::sample::Index>(),
        ) {
            let events: Vec<_> = events
                .into_iter()
                .map(|(user, timestamp, dead)| Event { user, timestamp, dead })
                .collect();
            let end = i64::try_from(events.len()).unwrap();
            let from = i64::try_from(refill.index(events.len() + 1)).unwrap();
            let mut letters: HashMap<i64, i64> = HashMap::new();
            let mut read = |clock: &mut HybridClock, from: i64, table: &mut Table| {
                for offset in from..end {
                    let event = events[usize::try_from(offset).unwrap()];
                    let write_timestamp = clock.next(offset, event.timestamp, NOW).micros;
                    if event.dead {
                        let highest = letters.entry(offset).or_insert(write_timestamp);
                        *highest = write_timestamp.max(*highest);
                    } else {
                        write(table, Uuid::from_u128(event.user), write_timestamp, offset);
                    }
                }
            };
            let mut clock = HybridClock::resume(None, crate::pipeline::write_timestamp::MaxSeen::default());
            read(&mut clock, 0, &mut Table::new());
            let position = Position {
                next_offset: end,
                last_write_timestamp: clock.last(),
                max_seen: clock.max_seen(),
                dead_letters: DeadLetterStats::default(),
            };
            let checkpoint = Checkpoint { partition: 0, position, epoch: 1, topic_id: TOPIC, table_id: OTHER };
            let info = PartitionInfo {
                partition: 0,
                checkpoint: Some(checkpoint),
                group_has_checkpoints: true,
                topic_id: TOPIC,
                table_id: TABLE,
                beginning: 0,
                end,
                committed: None,
            };
            // The table was dropped and is refilled from that offset.
            let moved = replay(&info, from, NOW).unwrap().position;
            let mut table = Table::new();
            read(&mut HybridClock::resume(moved.last_write_timestamp, moved.max_seen), from, &mut table);

            let mut latest = LatestRecords::new(TOPIC, vec![0], TABLE);
            for (offset, event) in (0..).zip(&events) {
                latest.add(Uuid::from_u128(event.user), PartitionOffset { partition: 0, offset });
            }
            for (offset, write_timestamp) in &letters {
                let user = Uuid::from_u128(events[usize::try_from(*offset).unwrap()].user);
                if latest.superseded(origin(TOPIC, *offset), user, at("2026-01-01T00:00:00Z")).is_none() {
                    write(&mut table, user, *write_timestamp, *offset);
                }
            }
            for user in 0..4_u128 {
                let last = (0..).zip(&events).filter(|(_, event)| event.user == user).last();
                // A record before the refill without a dead letter must not be in the table.
                let expected = last.filter(|(offset, event)| event.dead || *offset >= from);
                let found = table.get(&Uuid::from_u128(user)).map(|(_, offset)| *offset);
                prop_assert_eq!(found, expected.map(|(offset, _)| offset), "user {}", user);
            }
        }
    }
}
