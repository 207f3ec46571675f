//! Questions to the cluster: which topic is it, where does a partition begin and end. Every call blocks, for at most
//! its timeout, so callers in async code go through [`Broker::ask`].

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use rebootstrap::Answers;
use uuid::Uuid;

use crate::kafka::{client, topic_id};
use crate::settings::KafkaSettings;

/// A consumer that belongs to no group's assignment and is only asked.
pub struct Broker {
    consumer: BaseConsumer,
    answers: Answers,
    topic: String,
    timeout: Duration,
}

/// The topic as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
}

/// Reports that are looked through for a refusal; each failed connection makes one.
const MOST_REPORTS: usize = 100;

impl Broker {
    /// Connects lazily.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let consumer = client::shared(settings)
            .set("group.id", &settings.group)
            .set("enable.auto.commit", "false")
            .create()?;
        Ok(Self {
            consumer,
            answers: Answers::of(&settings.brokers.join(",")),
            topic: settings.topic.clone(),
            timeout: settings.probe_interval,
        })
    }

    /// Runs `question` on a thread that may block.
    ///
    /// # Errors
    /// Those of the question. A broker that does not let us in answers no question, so the error of one that was not
    /// answered is the refusal, if there was one.
    pub async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Self) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let broker = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let refusals = broker.refusal();
            let answer = question(&broker);
            broker.answers.note(broker.consumer.client(), &answer);
            answer.map_err(|error| broker.refusal().or(refusals).unwrap_or(error))
        })
        .await
        .unwrap_or(Err(KafkaError::Canceled))
    }

    /// What librdkafka reports beside the answers: the one way in which it tells of refused credentials.
    fn refusal(&self) -> Option<KafkaError> {
        std::iter::from_fn(|| self.consumer.poll(Duration::ZERO))
            .take(MOST_REPORTS)
            .filter_map(Result::err)
            .find(client::is_refused)
    }

    /// Whether there is such a topic. A topic that may not be seen is not there.
    ///
    /// # Errors
    /// When the cluster does not answer in time.
    pub fn has_topic(&self, name: &str) -> Result<bool, KafkaError> {
        let asked = self.consumer.fetch_metadata(Some(name), self.timeout)?;
        Ok(asked
            .topics()
            .iter()
            .any(|topic| topic.error().is_none() && !topic.partitions().is_empty()))
    }

    /// The topic's id and partition count.
    ///
    /// # Errors
    /// When the cluster does not answer in time, or has no such topic.
    pub fn topic(&self) -> Result<Topic, KafkaError> {
        // In this order: the question for the id waits for a connection, and does not make one where one was lost.
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), self.timeout)?;
        let found = metadata
            .topics()
            .first()
            .map_or(0, |topic| topic.partitions().len());
        let partitions = i32::try_from(found).unwrap_or(i32::MAX);
        if partitions == 0 {
            return Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::UnknownTopicOrPartition,
            ));
        }
        let id = topic_id::topic_id(self.consumer.client(), &self.topic, self.timeout)?;
        Ok(Topic { id, partitions })
    }

    /// The offset of the first record and the one after the last, each partition by itself.
    ///
    /// # Errors
    /// When the cluster does not answer in time.
    pub fn watermarks(&self, partitions: &[i32]) -> Result<Vec<(i64, i64)>, KafkaError> {
        partitions
            .iter()
            .map(|partition| {
                self.consumer
                    .fetch_watermarks(&self.topic, *partition, self.timeout)
            })
            .collect()
    }

    /// What the group has committed, each partition by itself.
    ///
    /// # Errors
    /// When the cluster does not answer in time.
    pub fn committed(&self, partitions: &[i32]) -> Result<Vec<Option<i64>>, KafkaError> {
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            asked.add_partition(&self.topic, *partition);
        }
        let found = self.consumer.committed_offsets(asked, self.timeout)?;
        Ok(partitions
            .iter()
            .map(
                |partition| match found.find_partition(&self.topic, *partition)?.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                },
            )
            .collect())
    }

    /// Whether the group's coordinator answers: without it nobody is given a partition, though a broker may still tell of
    /// the topic what it last heard.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn coordinator(&self) -> Result<(), KafkaError> {
        self.committed(&[0]).map(drop)
    }

    /// The first offset whose record's timestamp is at or after `millis` since 1970, each partition by itself; the
    /// end where there is none.
    ///
    /// # Errors
    /// When the cluster does not answer in time.
    pub fn offsets_at(&self, partitions: &[i32], millis: i64) -> Result<Vec<i64>, KafkaError> {
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            asked.add_partition_offset(&self.topic, *partition, Offset::Offset(millis))?;
        }
        let found = self.consumer.offsets_for_times(asked, self.timeout)?;
        let ends = self.watermarks(partitions)?;
        Ok(partitions
            .iter()
            .zip(ends)
            .map(|(partition, (_, end))| {
                match found
                    .find_partition(&self.topic, *partition)
                    .map(|it| it.offset())
                {
                    Some(Offset::Offset(offset)) => offset,
                    _ => end,
                }
            })
            .collect())
    }

    /// How many members the group has now.
    ///
    /// # Errors
    /// When the cluster does not answer in time.
    pub fn group_members(&self, group: &str) -> Result<usize, KafkaError> {
        let groups = self.consumer.fetch_group_list(Some(group), self.timeout)?;
        Ok(groups.groups().iter().map(|group| group.members().len()).sum())
    }
}
