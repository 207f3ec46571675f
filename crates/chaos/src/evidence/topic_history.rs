//! Records that a topic has lost: the oracle reads them before a fault deletes them.
//!
//! A recreated topic is judged as a continuation: its offsets are counted from the ends of the old one. So is a log that
//! lost records by a leader change, since the streamers read it again from its beginning. Every invariant is therefore
//! stated once, and holds across the change.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use testkit::kafka_client::TopicRecord;
use uuid::Uuid;

use super::records::{Position, dead_letter_source};

/// Records that are no longer in the topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct LostRecords {
    /// Those that the streamers had read.
    pub(crate) read: Vec<TopicRecord>,
    pub(crate) unread: Vec<TopicRecord>,
    /// The log before it began again.
    pub(crate) previous: Option<PreviousLog>,
}

/// A log that was read to its end, and then began again.
#[derive(Clone, Debug)]
pub(crate) struct PreviousLog {
    pub(crate) cause: NewLog,
    /// The end of each partition that began again.
    pub(crate) ends: BTreeMap<i32, i64>,
}

/// Why a log began again, and how positions of the previous one are recognized.
#[derive(Clone, Debug)]
pub(crate) enum NewLog {
    /// The topic was recreated; it had this id.
    Recreated(Uuid),
    /// The topic has its id, and its records are read again. The dead-letter topic had these ends.
    Regrown { dead_letters: BTreeMap<i32, i64> },
}

impl PreviousLog {
    /// The id of the previous topic.
    pub(crate) fn topic_id(&self) -> Option<Uuid> {
        match self.cause {
            NewLog::Recreated(id) => Some(id),
            NewLog::Regrown { .. } => None,
        }
    }
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

    /// See [`LostRecords::source`].
    pub(crate) fn source(&self, letter: &TopicRecord) -> Option<Position> {
        self.lock().source(letter)
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
            Some(previous) if topic.is_none() || topic != previous.topic_id() => (
                partition,
                offset + previous.ends.get(&partition).copied().unwrap_or(0),
            ),
            _ => (partition, offset),
        }
    }

    /// The position in the continued log of a dead letter's original record.
    pub(crate) fn source(&self, letter: &TopicRecord) -> Option<Position> {
        let (topic, position) = dead_letter_source(letter)?;
        if let Some(PreviousLog {
            cause: NewLog::Regrown { dead_letters },
            ..
        }) = &self.previous
            && letter.offset < dead_letters.get(&letter.partition).copied().unwrap_or(0)
        {
            return Some(position);
        }
        Some(self.continued(topic, position))
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
    use model::headers::dead_letter;

    use super::*;

    fn record(partition: i32, offset: i64) -> TopicRecord {
        TopicRecord {
            partition,
            offset,
            timestamp: None,
            log_append_time: true,
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
            previous: Some(PreviousLog {
                cause: NewLog::Recreated(old),
                ends: BTreeMap::from([(0, 2)]),
            }),
        };
        assert_eq!(lost.continued(Some(old), (0, 1)), (0, 1));
        assert_eq!(lost.continued(Some(Uuid::from_u128(2)), (0, 1)), (0, 3));
        assert_eq!(lost.continued(None, (1, 1)), (1, 1), "an empty partition");
        let log = lost.with_present(vec![record(0, 0)]);
        let offsets: Vec<_> = log.iter().map(|it| it.offset).collect();
        assert_eq!(offsets, [0, 1, 2]);
    }

    #[test]
    fn regrown_partition_continues_at_its_old_end() {
        let lost = LostRecords {
            previous: Some(PreviousLog {
                cause: NewLog::Regrown {
                    dead_letters: BTreeMap::from([(0, 1)]),
                },
                ends: BTreeMap::from([(0, 2)]),
            }),
            ..LostRecords::default()
        };
        let id = Uuid::from_u128(1);
        assert_eq!(lost.continued(Some(id), (0, 1)), (0, 3));
        assert_eq!(
            lost.continued(Some(id), (1, 1)),
            (1, 1),
            "a partition that kept its log"
        );
        let letter = |offset| TopicRecord {
            headers: BTreeMap::from([
                (dead_letter::PARTITION.to_owned(), b"0".to_vec()),
                (dead_letter::OFFSET.to_owned(), b"1".to_vec()),
            ]),
            ..record(0, offset)
        };
        assert_eq!(lost.source(&letter(0)), Some((0, 1)), "written before");
        assert_eq!(lost.source(&letter(1)), Some((0, 3)));
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
            previous: Some(PreviousLog {
                cause: NewLog::Recreated(Uuid::from_u128(1)),
                ends: BTreeMap::from([(0, 5)]),
            }),
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
