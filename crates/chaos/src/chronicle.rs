//! What a topic held and nobody can read any more: the oracle reads it before a fault takes it away.
//!
//! A recreated topic is judged as one log that goes on: its offsets are counted from the old one's ends. So every law is
//! stated once, and holds across the change.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use testkit::kafka_client::TopicRecord;

/// A place in the topic: partition and offset.
pub type Place = (i32, i64);

/// What is gone from the topic.
#[derive(Clone, Debug, Default)]
pub struct Gone {
    /// What the streamers had read of it.
    pub read: Vec<TopicRecord>,
    /// What nobody has read, and nobody will.
    pub unread: Vec<TopicRecord>,
    /// The topic before this one, if it was recreated, and where its partitions ended.
    pub before: Option<(Uuid, BTreeMap<i32, i64>)>,
}

/// The past of a round's topic.
#[derive(Debug, Default)]
pub struct Chronicle(Mutex<Gone>);

impl Chronicle {
    fn gone(&self) -> MutexGuard<'_, Gone> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what is about to go, beside what is gone already. Of a topic that was recreated before, its places
    /// are those of the log that goes on.
    pub fn note(&self, gone: Gone) {
        let mut known = self.gone();
        let read = known.placed(gone.read);
        let unread = known.placed(gone.unread);
        known.read.extend(read);
        known.unread.extend(unread);
        known.before = gone.before.or_else(|| known.before.take());
    }

    /// What is gone.
    #[must_use]
    pub fn tell(&self) -> Gone {
        self.gone().clone()
    }

    /// A place in the topic of this id, as a place in the log that goes on.
    #[must_use]
    pub fn place(&self, topic: Option<Uuid>, place: Place) -> Place {
        self.gone().place(topic, place)
    }
}

impl Gone {
    /// A place in the topic of this id, as a place in the log that goes on; without an id it is the present topic.
    #[must_use]
    pub fn place(&self, topic: Option<Uuid>, (partition, offset): Place) -> Place {
        match &self.before {
            Some((before, ends)) if topic != Some(*before) => {
                (partition, offset + ends.get(&partition).copied().unwrap_or(0))
            }
            _ => (partition, offset),
        }
    }

    /// Records of the present topic, where they are in the log that goes on.
    fn placed(&self, records: Vec<TopicRecord>) -> Vec<TopicRecord> {
        let placed = records.into_iter().map(|mut record| {
            (record.partition, record.offset) = self.place(None, (record.partition, record.offset));
            record
        });
        placed.collect()
    }

    /// The whole log: what is gone and was read, and what is there.
    #[must_use]
    pub fn and(&self, present: Vec<TopicRecord>) -> Vec<TopicRecord> {
        let mut log = self.read.clone();
        log.extend(self.placed(present));
        log.sort_by_key(|record| (record.partition, record.offset));
        // What was cut may have been read once more.
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
    fn a_recreated_topic_goes_on_where_the_old_one_ended() {
        let old = Uuid::from_u128(1);
        let gone = Gone {
            read: vec![record(0, 0), record(0, 1)],
            unread: Vec::new(),
            before: Some((old, BTreeMap::from([(0, 2)]))),
        };
        assert_eq!(gone.place(Some(old), (0, 1)), (0, 1));
        assert_eq!(gone.place(Some(Uuid::from_u128(2)), (0, 1)), (0, 3));
        assert_eq!(gone.place(None, (1, 1)), (1, 1), "a partition that held nothing");
        let offsets: Vec<_> = gone.and(vec![record(0, 0)]).iter().map(|it| it.offset).collect();
        assert_eq!(offsets, [0, 1, 2]);
    }

    #[test]
    fn what_was_noted_before_is_kept() {
        let chronicle = Chronicle::default();
        let cut = |offset| Gone {
            read: vec![record(0, offset)],
            ..Gone::default()
        };
        chronicle.note(cut(0));
        chronicle.note(Gone {
            before: Some((Uuid::from_u128(1), BTreeMap::from([(0, 5)]))),
            ..cut(1)
        });
        chronicle.note(cut(2));
        let gone = chronicle.tell();
        let offsets: Vec<_> = gone.read.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [0, 1, 7]);
        assert!(gone.before.is_some());
    }

    #[test]
    fn of_a_topic_that_was_cut_nothing_is_told_twice() {
        let gone = Gone {
            read: vec![record(0, 0), record(0, 1)],
            ..Gone::default()
        };
        assert_eq!(gone.and(vec![record(0, 1), record(0, 2)]).len(), 3);
    }
}
