//! Records that a topic has lost: the oracle reads them before a fault deletes them.
//!
//! A recreated topic is judged as a continuation: its offsets are counted from the ends of the old one. Every invariant
//! is therefore stated once, and holds across the change.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use testkit::kafka_client::TopicRecord;
use uuid::Uuid;

/// Partition and offset.
pub(crate) type Position = (i32, i64);

/// Records that are no longer in the topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct LostRecords {
    /// Those that the streamers had read.
    pub(crate) read: Vec<TopicRecord>,
    pub(crate) unread: Vec<TopicRecord>,
    /// The id and the end offsets of the topic before it was recreated.
    pub(crate) previous: Option<(Uuid, BTreeMap<i32, i64>)>,
}

/// The history of a round's topic, shared by faults and observers.
#[derive(Debug, Default)]
pub(crate) struct TopicHistory(Mutex<LostRecords>);

impl TopicHistory {
    fn lock(&self) -> MutexGuard<'_, LostRecords> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds records that are about to be deleted from the present topic.
    pub(crate) fn add(&self, lost: LostRecords) {
        let mut known = self.lock();
        let read = known.continued_all(lost.read);
        let unread = known.continued_all(lost.unread);
        known.read.extend(read);
        known.unread.extend(unread);
        known.previous = lost.previous.or_else(|| known.previous.take());
    }

    pub(crate) fn lost(&self) -> LostRecords {
        self.lock().clone()
    }

    /// See [`LostRecords::continued`].
    pub(crate) fn continued(&self, topic: Option<Uuid>, position: Position) -> Position {
        self.lock().continued(topic, position)
    }
}

impl LostRecords {
    /// Converts a position in the topic of this id to a position in the continued log. `None` is the present topic.
    pub(crate) fn continued(&self, topic: Option<Uuid>, (partition, offset): Position) -> Position {
        match &self.previous {
            Some((previous, ends)) if topic != Some(*previous) => {
                (partition, offset + ends.get(&partition).copied().unwrap_or(0))
            }
            _ => (partition, offset),
        }
    }

    fn continued_all(&self, records: Vec<TopicRecord>) -> Vec<TopicRecord> {
        let records = records.into_iter().map(|mut record| {
            (record.partition, record.offset) = self.continued(None, (record.partition, record.offset));
            record
        });
        records.collect()
    }

    /// The whole log: lost records that were read, and the present ones.
    pub(crate) fn with_present(&self, present: Vec<TopicRecord>) -> Vec<TopicRecord> {
        let mut log = self.read.clone();
        log.extend(self.continued_all(present));
        log.sort_by_key(|record| (record.partition, record.offset));
        // The present log may include truncated records.
        log.dedup_by_key(|record| (record.partition, record.offset));
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, offset: i64) -> TopicRecord {
        TopicRecord {
            partition,
            offset,
            timestamp: None,
            key: None,
            value: None,
            headers: BTreeMap::new(),
        }
    }

    #[test]
    fn recreated_topic_continues_at_the_old_end() {
        let old = Uuid::from_u128(1);
        let lost = LostRecords {
            read: vec![record(0, 0), record(0, 1)],
            unread: Vec::new(),
            previous: Some((old, BTreeMap::from([(0, 2)]))),
        };
        assert_eq!(lost.continued(Some(old), (0, 1)), (0, 1));
        assert_eq!(lost.continued(Some(Uuid::from_u128(2)), (0, 1)), (0, 3));
        assert_eq!(lost.continued(None, (1, 1)), (1, 1), "an empty partition");
        let log = lost.with_present(vec![record(0, 0)]);
        let offsets: Vec<_> = log.iter().map(|it| it.offset).collect();
        assert_eq!(offsets, [0, 1, 2]);
    }

    #[test]
    fn history_keeps_earlier_records() {
        let history = TopicHistory::default();
        let truncated = |offset| LostRecords {
            read: vec![record(0, offset)],
            ..LostRecords::default()
        };
        history.add(truncated(0));
        history.add(LostRecords {
            previous: Some((Uuid::from_u128(1), BTreeMap::from([(0, 5)]))),
            ..truncated(1)
        });
        history.add(truncated(2));
        let lost = history.lost();
        let offsets: Vec<_> = lost.read.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [0, 1, 7]);
        assert!(lost.previous.is_some());
    }

    #[test]
    fn truncated_records_appear_once() {
        let lost = LostRecords {
            read: vec![record(0, 0), record(0, 1)],
            ..LostRecords::default()
        };
        assert_eq!(lost.with_present(vec![record(0, 1), record(0, 2)]).len(), 3);
    }
}
