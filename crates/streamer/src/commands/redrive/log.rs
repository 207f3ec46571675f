//! What the topic holds after a dead letter: a later record of the same user is that user's row, and the letter must not
//! become it.
//!
//! Write timestamps alone do not settle that. They rise with the log within one reading of it; but a table that was
//! filled again from beyond the letter has its rows under timestamps of their own, which lie below the letter's where
//! the records' timestamps step back. So the log itself is asked. Pure, but for [`read`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use uuid::Uuid;

use crate::commands::error::CommandError;
use crate::commands::letter::{Origin, Place};
use crate::commands::servers::{self, Servers};
use crate::kafka::scan::Scanned;

/// The topic as far as it bears on dead letters.
pub(super) struct Log {
    topic_id: Uuid,
    beginnings: Vec<i64>,
    /// The last valid record of each user in a partition.
    last: HashMap<(Uuid, i32), i64>,
    /// When the table was created; none, if its id does not tell.
    table_since: Option<jiff::Timestamp>,
}

/// Why a dead letter must not become a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overtaken {
    /// This is a later record of the same user.
    By(Place),
    /// Later records are gone from the topic, and the table may have been filled again from some of them.
    Unknown,
}

impl Log {
    /// A topic that begins at `beginnings`, of which nothing is read yet.
    pub(super) fn new(topic_id: Uuid, beginnings: Vec<i64>, table_id: Uuid) -> Self {
        Self {
            topic_id,
            beginnings,
            last: HashMap::new(),
            table_since: created(table_id),
        }
    }

    /// The record at `place`, one of `user`, is valid.
    pub(super) fn add(&mut self, user: Uuid, place: Place) {
        let last = self.last.entry((user, place.partition)).or_insert(place.offset);
        *last = place.offset.max(*last);
    }

    /// Whether a record of `user` came after the one that was set aside at `at`.
    pub(super) fn overtaken(&self, origin: Origin, user: Uuid, at: jiff::Timestamp) -> Option<Overtaken> {
        let Place { partition, offset } = origin.place;
        let same_topic = origin.topic_id == self.topic_id;
        let mut later = self.last.iter().filter(|((of, lies), last)| {
            // Whatever is in a topic came after all of the topic that had its name before.
            *of == user && (!same_topic || (*lies == partition && **last > offset))
        });
        if let Some(((_, partition), offset)) = later.next() {
            let (partition, offset) = (*partition, *offset);
            return Some(Overtaken::By(Place { partition, offset }));
        }
        let beginning = usize::try_from(partition)
            .ok()
            .and_then(|partition| self.beginnings.get(partition));
        let all_is_there = same_topic && beginning.is_some_and(|beginning| *beginning <= offset + 1);
        let read_in_order = self.table_since.is_some_and(|since| since < at);
        (!all_is_there && !read_in_order).then_some(Overtaken::Unknown)
    }

    /// What has to be read because of letters at `origins`: of each partition, what lies after the first of them.
    fn ranges(&self, origins: impl Iterator<Item = Origin>, ends: &[i64]) -> BTreeMap<i32, Range<i64>> {
        let mut ranges = BTreeMap::new();
        for origin in origins {
            for ((partition, beginning), end) in (0..).zip(&self.beginnings).zip(ends) {
                let from = if origin.topic_id != self.topic_id {
                    *beginning
                } else if origin.place.partition == partition {
                    (origin.place.offset + 1).max(*beginning)
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

/// Reads what lies after `origins`, as far as it is of `users`; `user` tells whose a record is, if it is valid.
///
/// # Errors
/// When Kafka refuses, or has not answered in time.
pub(super) async fn read(
    servers: &Servers,
    table_id: Uuid,
    origins: impl Iterator<Item = Origin>,
    users: &HashSet<Uuid>,
    user: impl Fn(&Scanned) -> Option<Uuid>,
) -> Result<Log, CommandError> {
    let (topic, watermarks) = servers.kafka(servers::watermarks).await?;
    let (beginnings, ends): (Vec<_>, Vec<_>) = watermarks.into_iter().unzip();
    let mut log = Log::new(topic.id, beginnings, table_id);
    let mut scan = servers.scan(log.ranges(origins, &ends))?;
    while let Some(records) = servers.next(&mut scan).await? {
        for record in records {
            let (partition, offset) = (record.partition, record.offset);
            if let Some(user) = user(&record).filter(|user| users.contains(user)) {
                log.add(user, Place { partition, offset });
            }
        }
    }
    Ok(log)
}

/// A table's id carries the time of its creation, unless the cluster makes ids from names.
fn created(table_id: Uuid) -> Option<jiff::Timestamp> {
    let (seconds, nanoseconds) = table_id.get_timestamp()?.to_unix();
    jiff::Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::deliberate::replay;
    use crate::checkpoint::{Checkpoint, Known};
    use crate::clock::HybridClock;
    use crate::progress::Position;
    use crate::tally::Tally;

    const TOPIC: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(9);
    /// Its time is the last day of 2019.
    const TABLE: Uuid = Uuid::from_u128(0x9ab4_4000_2c26_11ea_8000_0000_0000_0000);
    const USER: Uuid = Uuid::from_u128(7);

    fn origin(topic_id: Uuid, offset: i64) -> Origin {
        let partition = 0;
        Origin {
            topic_id,
            place: Place { partition, offset },
        }
    }

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_later_record_of_the_user_overtakes_and_an_earlier_one_or_anothers_does_not() {
        let mut log = Log::new(TOPIC, vec![0], TABLE);
        let place = |offset| Place { partition: 0, offset };
        log.add(USER, place(4));
        log.add(OTHER, place(9));
        let now = at("2026-01-01T00:00:00Z");
        assert_eq!(
            log.overtaken(origin(TOPIC, 3), USER, now),
            Some(Overtaken::By(place(4)))
        );
        assert_eq!(log.overtaken(origin(TOPIC, 4), USER, now), None);
        assert_eq!(
            log.overtaken(origin(OTHER, 99), USER, now),
            Some(Overtaken::By(place(4))),
            "the topic that is there came after the one before"
        );
    }

    #[test]
    fn where_the_log_is_gone_only_a_table_that_was_there_all_the_time_can_be_trusted() {
        assert_eq!(
            created(TABLE).unwrap().to_string().split('T').next(),
            Some("2019-12-31")
        );
        let log = Log::new(TOPIC, vec![10], TABLE);
        let (before, after) = (at("2019-06-01T00:00:00Z"), at("2020-06-01T00:00:00Z"));
        for gone in [origin(TOPIC, 8), origin(OTHER, 50)] {
            assert_eq!(log.overtaken(gone, USER, after), None);
            assert_eq!(log.overtaken(gone, USER, before), Some(Overtaken::Unknown));
        }
        assert_eq!(log.overtaken(origin(TOPIC, 9), USER, before), None);
        let untold = Log::new(TOPIC, vec![10], Uuid::from_u128(5));
        assert_eq!(
            untold.overtaken(origin(TOPIC, 8), USER, after),
            Some(Overtaken::Unknown)
        );
    }

    /// A table of one partition's users: each one's write timestamp and the offset it is from.
    type Table = HashMap<Uuid, (i64, i64)>;

    fn write(table: &mut Table, user: Uuid, stamp: i64, offset: i64) {
        let row = table.entry(user).or_insert((stamp, offset));
        *row = (stamp, offset).max(*row);
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
        fn a_redrive_after_any_refill_leaves_each_user_the_last_record_of_the_log(
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
                    let stamp = clock.stamp(offset, event.timestamp, NOW).micros;
                    if event.dead {
                        let highest = letters.entry(offset).or_insert(stamp);
                        *highest = stamp.max(*highest);
                    } else {
                        write(table, Uuid::from_u128(event.user), stamp, offset);
                    }
                }
            };
            let mut clock = HybridClock::resume(None, crate::clock::HighMark::default());
            read(&mut clock, 0, &mut Table::new());
            let position = Position {
                next_offset: end,
                last_stamp: clock.last(),
                high: clock.high(),
                tally: Tally::default(),
            };
            let checkpoint = Checkpoint { partition: 0, position, epoch: 1, topic_id: TOPIC, table_id: OTHER };
            let known = Known {
                partition: 0,
                checkpoint: Some(checkpoint),
                group_has_checkpoints: true,
                topic_id: TOPIC,
                table_id: TABLE,
                beginning: 0,
                end,
                committed: None,
            };
            // The table was dropped, and is filled again from there.
            let moved = replay(&known, from, NOW).unwrap().position;
            let mut table = Table::new();
            read(&mut HybridClock::resume(moved.last_stamp, moved.high), from, &mut table);

            let mut log = Log::new(TOPIC, vec![0], TABLE);
            for (offset, event) in (0..).zip(&events) {
                log.add(Uuid::from_u128(event.user), Place { partition: 0, offset });
            }
            for (offset, stamp) in &letters {
                let user = Uuid::from_u128(events[usize::try_from(*offset).unwrap()].user);
                if log.overtaken(origin(TOPIC, *offset), user, at("2026-01-01T00:00:00Z")).is_none() {
                    write(&mut table, user, *stamp, *offset);
                }
            }
            for user in 0..4_u128 {
                let last = (0..).zip(&events).filter(|(_, event)| event.user == user).last();
                // What lies before the refill and was no letter is not to be in the table.
                let expected = last.filter(|(offset, event)| event.dead || *offset >= from);
                let found = table.get(&Uuid::from_u128(user)).map(|(_, offset)| *offset);
                prop_assert_eq!(found, expected.map(|(offset, _)| offset), "user {}", user);
            }
        }
    }
}
