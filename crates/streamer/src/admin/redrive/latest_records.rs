//! The latest record of each row in the topic. A dead letter must not replace the row of a later record.
//!
//! Write timestamps alone do not decide this. They increase with the log within one pass over it. A table that was
//! refilled from a later offset has its own write timestamps, which may be smaller than the dead letter's. Therefore
//! the log is read. Pure, except for [`read`].

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use uuid::Uuid;

use crate::admin::clients::{self, Clients};
use crate::admin::error::CommandError;
use crate::consumer::scan::ScannedRecord;
use crate::dead_letters::dead_letter::{PartitionOffset, SourceRecordId};
use crate::pipeline::row::{RowKey, in_partition};

/// The latest records of the keys with dead letters.
pub(super) struct LatestRecords {
    /// A dead letter of an unknown topic counts as one of an earlier topic, so that no later record is overwritten.
    topic_id: Uuid,
    beginnings: Vec<i64>,
    /// The offset of the last valid record in each partition of the topic: of each row, and, under the key of the table's
    /// partition, of each deletion.
    last: BTreeMap<RowKey, BTreeMap<i32, i64>>,
    /// When the table was created; `None` if its id does not contain the time.
    table_since: Option<jiff::Timestamp>,
}

/// Why a dead letter must not be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Superseded {
    /// By this later record of the same row, or by this later deletion of its key.
    By(PartitionOffset),
    /// Later records are deleted from the topic, and the table may have been refilled from some of them.
    Unknown,
    /// The topic does not have all records of the deleted key, so it is not known which rows are later.
    UnknownRows,
}

impl LatestRecords {
    /// Creates the records of a topic that starts at `beginnings`, before it is read.
    pub(super) fn new(topic_id: Uuid, beginnings: Vec<i64>, table_id: Uuid) -> Self {
        Self {
            topic_id,
            beginnings,
            last: BTreeMap::new(),
            table_since: created(table_id),
        }
    }

    /// Adds the valid record at `position`, of a row or of a deletion.
    pub(super) fn add(&mut self, key: RowKey, position: PartitionOffset) {
        let of_key = self.last.entry(key).or_default();
        let last = of_key.entry(position.partition).or_insert(position.offset);
        *last = position.offset.max(*last);
    }

    /// Returns whether a later record of the row, or a later deletion of its key, supersedes the dead letter written at
    /// `at`.
    pub(super) fn superseded(
        &self,
        origin: SourceRecordId,
        key: &RowKey,
        at: jiff::Timestamp,
    ) -> Option<Superseded> {
        if let Some(position) = self
            .later(origin, key)
            .or_else(|| self.later(origin, &key.partition()))
        {
            return Some(Superseded::By(position));
        }
        let is_there = self.has_records_from(origin, origin.position.offset + 1);
        let read_in_order = self.table_since.is_some_and(|since| since < at);
        (!is_there && !read_in_order).then_some(Superseded::Unknown)
    }

    /// Returns the rows that a dead deletion of `key` deletes: those of `table`, the present rows of the key, and of the
    /// earlier log, except those with a later record.
    ///
    /// # Errors
    /// When a later deletion supersedes it, or the topic does not have all records of the key.
    pub(super) fn deleted_rows(
        &self,
        origin: SourceRecordId,
        key: &RowKey,
        table: impl IntoIterator<Item = RowKey>,
    ) -> Result<Vec<RowKey>, Superseded> {
        if let Some(position) = self.later(origin, key) {
            return Err(Superseded::By(position));
        }
        if !self.has_records_from(origin, 0) {
            return Err(Superseded::UnknownRows);
        }
        let in_log = in_partition(&self.last, key).map(|(row, _)| row.clone());
        let rows: HashSet<_> = in_log.filter(|row| row != key).chain(table).collect();
        let is_earlier = |row: &RowKey| self.later(origin, row).is_none();
        Ok(rows.into_iter().filter(is_earlier).collect())
    }

    /// Returns a later record under exactly this key. All records of the present topic are later than those of an earlier
    /// topic of the same name.
    fn later(&self, origin: SourceRecordId, key: &RowKey) -> Option<PartitionOffset> {
        let same_topic = origin.topic_id == self.topic_id;
        let PartitionOffset { partition, offset } = origin.position;
        let is_later =
            |it: &PartitionOffset| !same_topic || (it.partition == partition && it.offset > offset);
        let last = self.last.get(key)?.iter();
        let mut last = last.map(|(partition, offset)| PartitionOffset {
            partition: *partition,
            offset: *offset,
        });
        last.find(is_later)
    }

    /// Whether the topic has all records of the dead letter's partition from `offset` on.
    fn has_records_from(&self, origin: SourceRecordId, offset: i64) -> bool {
        let partition = usize::try_from(origin.position.partition).ok();
        let beginning = partition.and_then(|partition| self.beginnings.get(partition));
        origin.topic_id == self.topic_id && beginning.is_some_and(|beginning| *beginning <= offset)
    }

    /// Returns the ranges to read for these dead letters: in each partition, everything after the first of them, or
    /// everything if one deletes several rows.
    fn ranges(&self, letters: impl Iterator<Item = FoundLetter>, ends: &[i64]) -> BTreeMap<i32, Range<i64>> {
        let mut ranges = BTreeMap::new();
        for FoundLetter { origin, deletes_rows } in letters {
            for ((partition, beginning), end) in (0..).zip(&self.beginnings).zip(ends) {
                let from = if origin.topic_id != self.topic_id {
                    *beginning
                } else if origin.position.partition != partition {
                    continue;
                } else if deletes_rows {
                    *beginning
                } else {
                    (origin.position.offset + 1).max(*beginning)
                };
                let range = ranges.entry(partition).or_insert(from..*end);
                range.start = range.start.min(from);
            }
        }
        ranges
    }
}

/// A dead letter whose later records are needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundLetter {
    /// The rejected record.
    pub(super) origin: SourceRecordId,
    /// It deletes a key that may have several rows, so its earlier records are needed, too.
    pub(super) deletes_rows: bool,
}

/// Reads the records that may be later than `letters`, of these partitions of the table. `key` returns the row of a valid
/// record.
///
/// # Errors
/// When Kafka rejects a request, or does not respond in time.
pub(super) async fn read(
    clients: &Clients,
    table_id: Uuid,
    letters: impl Iterator<Item = FoundLetter>,
    partitions: &HashSet<RowKey>,
    key: impl Fn(&ScannedRecord) -> Option<RowKey>,
) -> Result<LatestRecords, CommandError> {
    let (topic, watermarks) = clients.kafka(clients::watermarks).await?;
    let (beginnings, ends): (Vec<_>, Vec<_>) = watermarks.into_iter().unzip();
    let mut latest = LatestRecords::new(topic.id, beginnings, table_id);
    let mut scan = clients.scan(latest.ranges(letters, &ends))?;
    while let Some(records) = clients.next(&mut scan).await? {
        for record in records {
            let (partition, offset) = (record.partition, record.offset);
            if let Some(key) = key(&record).filter(|key| partitions.contains(&key.partition())) {
                latest.add(key, PartitionOffset { partition, offset });
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
    use model::Key;
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::admin::replay;
    use crate::checkpoint::{Checkpoint, PartitionInfo};
    use crate::dead_letters::stats::DeadLetterStats;
    use crate::pipeline::position::Position;
    use crate::pipeline::write_timestamp::HybridClock;

    const TOPIC: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(9);
    /// A version 1 id of the last day of 2019.
    const TABLE: Uuid = Uuid::from_u128(0x9ab4_4000_2c26_11ea_8000_0000_0000_0000);

    fn key(number: i64) -> RowKey {
        RowKey::of_partition(&Key::Bigint(number))
    }

    /// A row of a table with a clustering column.
    fn row(number: i64, cluster: u8) -> RowKey {
        RowKey::of_values([number.to_be_bytes().as_slice(), &[cluster]])
    }

    fn position(offset: i64) -> PartitionOffset {
        PartitionOffset { partition: 0, offset }
    }

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
    fn only_a_later_record_of_the_same_row_supersedes() {
        let mut latest = LatestRecords::new(TOPIC, vec![0], TABLE);
        latest.add(row(7, 1), position(4));
        latest.add(row(7, 2), position(8));
        latest.add(row(9, 1), position(9));
        let now = at("2026-01-01T00:00:00Z");
        assert_eq!(
            latest.superseded(origin(TOPIC, 3), &row(7, 1), now),
            Some(Superseded::By(position(4)))
        );
        assert_eq!(latest.superseded(origin(TOPIC, 4), &row(7, 1), now), None);
        assert_eq!(
            latest.superseded(origin(OTHER, 99), &row(7, 1), now),
            Some(Superseded::By(position(4))),
            "the present topic is later than the earlier one"
        );
    }

    #[test]
    fn later_deletion_of_the_key_supersedes_its_rows() {
        let mut latest = LatestRecords::new(TOPIC, vec![0], TABLE);
        latest.add(key(7), position(5));
        let now = at("2026-01-01T00:00:00Z");
        for (offset, number, superseded) in [(4, 7, true), (6, 7, false), (4, 8, false)] {
            let found = latest.superseded(origin(TOPIC, offset), &row(number, 1), now);
            assert_eq!(found, superseded.then_some(Superseded::By(position(5))));
        }
        let rows = latest.deleted_rows(origin(TOPIC, 4), &key(7), [row(7, 1)]);
        assert_eq!(rows, Err(Superseded::By(position(5))));
    }

    #[test]
    fn dead_deletion_deletes_earlier_rows_only() {
        let mut latest = LatestRecords::new(TOPIC, vec![0], TABLE);
        for (key, offset) in [
            (row(7, 1), 1),
            (row(7, 2), 2),
            (row(7, 2), 6),
            (row(7, 3), 7),
            (row(8, 1), 3),
        ] {
            latest.add(key, position(offset));
        }
        // Rows 3 and 4 are in the table; row 4 is not in the log.
        let table = [row(7, 3), row(7, 4)];
        let mut rows = latest.deleted_rows(origin(TOPIC, 5), &key(7), table).unwrap();
        rows.sort();
        assert_eq!(rows, [row(7, 1), row(7, 4)]);
    }

    #[test]
    fn dead_deletion_is_left_if_the_log_is_incomplete() {
        let truncated = LatestRecords::new(TOPIC, vec![1], TABLE);
        let complete = LatestRecords::new(TOPIC, vec![0], TABLE);
        for (latest, topic, expected) in [
            (&truncated, TOPIC, Err(Superseded::UnknownRows)),
            (&complete, OTHER, Err(Superseded::UnknownRows)),
            (&complete, TOPIC, Ok(vec![row(7, 1)])),
        ] {
            let rows = latest.deleted_rows(origin(topic, 5), &key(7), [row(7, 1)]);
            assert_eq!(rows, expected);
        }
    }

    #[test]
    fn earlier_records_are_read_for_a_deletion_of_several_rows() {
        let latest = LatestRecords::new(TOPIC, vec![2, 0], TABLE);
        let ranges = |deletes_rows| {
            let letters = [9, 5].map(|offset| FoundLetter {
                origin: origin(TOPIC, offset),
                deletes_rows,
            });
            latest.ranges(letters.into_iter(), &[20, 30])
        };
        assert_eq!(ranges(false), BTreeMap::from([(0, 6..20)]));
        assert_eq!(ranges(true), BTreeMap::from([(0, 2..20)]));
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
            assert_eq!(latest.superseded(deleted, &key(7), after), None);
            assert_eq!(
                latest.superseded(deleted, &key(7), before),
                Some(Superseded::Unknown)
            );
        }
        assert_eq!(latest.superseded(origin(TOPIC, 9), &key(7), before), None);
        let unknown = LatestRecords::new(TOPIC, vec![10], Uuid::from_u128(5));
        assert_eq!(
            unknown.superseded(origin(TOPIC, 8), &key(7), after),
            Some(Superseded::Unknown)
        );
    }

    /// The rows of one partition of the topic with write timestamp and offset.
    type Rows = BTreeMap<RowKey, (i64, i64)>;

    /// A table whose keys have rows, and deletions of keys and rows. A deletion wins over writes of its timestamp.
    #[derive(Default)]
    struct FakeTable {
        rows: Rows,
        deletions: BTreeMap<RowKey, i64>,
    }

    impl FakeTable {
        fn write(&mut self, event: ReadEvent, write_timestamp: i64, offset: i64) {
            let key = event.key();
            if event.deletes {
                self.delete(key, write_timestamp);
            } else {
                let row = self.rows.entry(key).or_insert((write_timestamp, offset));
                *row = (write_timestamp, offset).max(*row);
            }
        }

        fn delete(&mut self, key: RowKey, write_timestamp: i64) {
            let deletion = self.deletions.entry(key).or_insert(write_timestamp);
            *deletion = write_timestamp.max(*deletion);
        }

        /// The offsets of the rows that are not deleted.
        fn visible(&self) -> BTreeMap<RowKey, i64> {
            let deleted = |key: &RowKey| self.deletions.get(key).copied().unwrap_or(i64::MIN);
            let rows = self.rows.iter().filter(|(key, (write_timestamp, _))| {
                *write_timestamp > deleted(key).max(deleted(&key.partition()))
            });
            rows.map(|(key, (_, offset))| (key.clone(), *offset)).collect()
        }
    }

    #[derive(Clone, Copy, Debug)]
    struct ReadEvent {
        number: i64,
        cluster: u8,
        deletes: bool,
        timestamp: i64,
        dead: bool,
    }

    impl ReadEvent {
        fn key(&self) -> RowKey {
            if self.deletes {
                key(self.number)
            } else {
                row(self.number, self.cluster)
            }
        }
    }

    const NOW: i64 = 1_800_000_000_000_000;

    /// The rows that the log leaves, except what comes before `from` and is no dead letter.
    fn expected(events: &[ReadEvent], from: i64) -> BTreeMap<RowKey, i64> {
        let mut rows = BTreeMap::new();
        for (offset, event) in (0..).zip(events) {
            if event.deletes {
                rows.retain(|row: &RowKey, _| !row.is_in(&event.key()));
            } else {
                rows.insert(event.key(), offset);
            }
        }
        let is_written = |offset: i64| offset >= from || events[usize::try_from(offset).unwrap()].dead;
        rows.retain(|_, offset| is_written(*offset));
        rows
    }

    proptest! {
        #[test]
        fn redrive_after_a_refill_leaves_what_the_log_leaves(
            events in proptest::collection::vec(
                (
                    (0_i64..3, 0_u8..3, proptest::bool::weighted(0.2)),
                    0..1_000_i64,
                    proptest::bool::weighted(0.3),
                ),
                1..40,
            ),
            refill in any::<prop::sample::Index>(),
        ) {
            let events: Vec<_> = events
                .into_iter()
                .map(|((number, cluster, deletes), timestamp, dead)| ReadEvent {
                    number, cluster, deletes, timestamp, dead,
                })
                .collect();
            let end = i64::try_from(events.len()).unwrap();
            let from = i64::try_from(refill.index(events.len() + 1)).unwrap();
            let mut letters: BTreeMap<i64, i64> = BTreeMap::new();
            let mut read = |clock: &mut HybridClock, from: i64, table: &mut FakeTable| {
                for offset in from..end {
                    let event = events[usize::try_from(offset).unwrap()];
                    let write_timestamp = clock.next(offset, event.timestamp, NOW).micros;
                    if event.dead {
                        let highest = letters.entry(offset).or_insert(write_timestamp);
                        *highest = write_timestamp.max(*highest);
                    } else {
                        table.write(event, write_timestamp, offset);
                    }
                }
            };
            let mut clock = HybridClock::resume(None, crate::pipeline::write_timestamp::MaxSeen::default());
            read(&mut clock, 0, &mut FakeTable::default());
            let position = Position {
                next_offset: end,
                leader_epoch: None,
                last_write_timestamp: clock.last(),
                max_seen: clock.max_seen(),
                dead_letters: DeadLetterStats::default(),
            };
            let checkpoint = Checkpoint { partition: 0, position, epoch: 1, topic_id: TOPIC, table_id: OTHER };
            let info = PartitionInfo {
                partition: 0,
                checkpoint: Some(checkpoint),
                group_has_checkpoints: true,
                earlier_write_timestamp: None,
                topic_id: TOPIC,
                table_id: TABLE,
                beginning: 0,
                end,
                truncated: false,
                committed: None,
            };
            // The table was dropped and is refilled from that offset.
            let moved = replay(&info, from, NOW).unwrap().position;
            let mut table = FakeTable::default();
            read(&mut HybridClock::resume(moved.last_write_timestamp, moved.max_seen), from, &mut table);

            let mut latest = LatestRecords::new(TOPIC, vec![0], TABLE);
            for (offset, event) in (0..).zip(&events) {
                latest.add(event.key(), PartitionOffset { partition: 0, offset });
            }
            for (offset, write_timestamp) in letters {
                let event = events[usize::try_from(offset).unwrap()];
                let origin = origin(TOPIC, offset);
                if event.deletes {
                    let present = table.visible().into_keys().filter(|row| row.is_in(&event.key()));
                    let present: Vec<_> = present.collect();
                    for row in latest.deleted_rows(origin, &event.key(), present).unwrap_or_default() {
                        table.delete(row, write_timestamp);
                    }
                } else if latest.superseded(origin, &event.key(), at("2026-01-01T00:00:00Z")).is_none() {
                    table.write(event, write_timestamp, offset);
                }
            }
            prop_assert_eq!(table.visible(), expected(&events, from));
        }
    }
}
