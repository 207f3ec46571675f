//! A tap on Kafka: writes records of any shape, and reads a topic from its beginning to its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use thiserror::Error;

/// A record to write.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The partition; none leaves it to murmur2.
    pub partition: Option<i32>,
    /// The timestamp in milliseconds since 1970, for topics that keep the producer's.
    pub timestamp: Option<i64>,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Kafka's timestamp in milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Headers, the last of a name.
    pub headers: BTreeMap<String, Vec<u8>>,
}

impl TopicRecord {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.headers.get(name)?).ok()
    }
}

/// The tap could not read or write.
#[derive(Debug, Error)]
pub enum KafkaClientError {
    /// Kafka's own error.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The topic's end was not reached in time.
    #[error("topic {topic}: its end was not reached within {} s", waited.as_secs())]
    NotRead {
        /// The topic.
        topic: String,
        /// How long it was read.
        waited: Duration,
    },
}

/// A client of one cluster.
#[derive(Clone)]
pub struct KafkaClient {
    bootstrap: String,
    producer: FutureProducer,
}

const DEADLINE: Duration = Duration::from_secs(30);
/// For one question; a broker that does not move takes it and answers nothing.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

impl KafkaClient {
    /// Connects lazily.
    ///
    /// # Errors
    /// When the client can't be made.
    pub fn new(bootstrap: impl Into<String>) -> Result<Self, KafkaClientError> {
        let bootstrap = bootstrap.into();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "1000000")
            .set("linger.ms", "2")
            .create()?;
        Ok(Self { bootstrap, producer })
    }

    /// Writes records and waits until all are acknowledged; returns partition and offset of each.
    ///
    /// # Errors
    /// When one is not acknowledged.
    pub async fn write(
        &self,
        topic: &str,
        records: &[Outgoing],
    ) -> Result<Vec<(i32, i64)>, KafkaClientError> {
        let deliveries = records
            .iter()
            .map(|record| {
                self.producer
                    .send_result(self.record(topic, record))
                    .map_err(|(error, _)| error)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let delivered = try_join_all(deliveries).await.map_err(|_| KafkaError::Canceled)?;
        delivered
            .into_iter()
            .map(|delivery| match delivery {
                Ok(delivery) => Ok((delivery.partition, delivery.offset)),
                Err((error, _)) => Err(error.into()),
            })
            .collect()
    }

    fn record<'a>(&self, topic: &'a str, record: &'a Outgoing) -> FutureRecord<'a, [u8], [u8]> {
        let mut outgoing = FutureRecord::to(topic);
        outgoing.key = record.key.as_deref();
        outgoing.payload = record.value.as_deref();
        outgoing.partition = record.partition;
        outgoing.timestamp = record.timestamp;
        if !record.headers.is_empty() {
            let headers = record
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header {
                        key,
                        value: Some(value),
                    })
                });
            outgoing.headers = Some(headers);
        }
        outgoing
    }

    /// Everything that the topic holds now, partition by partition. What a broker that has just come back answers is
    /// tried again.
    ///
    /// # Errors
    /// When the topic's end is not reached in time.
    pub async fn read(&self, topic: &str) -> Result<Vec<TopicRecord>, KafkaClientError> {
        let (tap, topic) = (self.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || tap.read_blocking(&topic))
            .await
            .unwrap_or(Err(KafkaClientError::Kafka(KafkaError::Canceled)))
    }

    /// The offset after the last record of each partition.
    ///
    /// # Errors
    /// When the cluster does not answer in time.
    pub async fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>, KafkaClientError> {
        let (tap, topic) = (self.clone(), topic.to_owned());
        let ends = tokio::task::spawn_blocking(move || tap.ends_blocking(&topic)).await;
        ends.unwrap_or(Err(KafkaClientError::Kafka(KafkaError::Canceled)))
    }

    /// Which broker leads each partition; below zero, where none does.
    ///
    /// # Errors
    /// When the cluster does not answer in time.
    pub async fn leaders(&self, topic: &str) -> Result<BTreeMap<i32, i32>, KafkaClientError> {
        let (tap, topic) = (self.clone(), topic.to_owned());
        let leaders = tokio::task::spawn_blocking(move || {
            again_and_again(|| {
                let metadata = tap.consumer("none")?.fetch_metadata(Some(&topic), ANSWER)?;
                let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
                Ok(partitions.map(|it| (it.id(), it.leader())).collect())
            })
        });
        leaders
            .await
            .unwrap_or(Err(KafkaClientError::Kafka(KafkaError::Canceled)))
    }

    fn consumer(&self, group: &str) -> Result<BaseConsumer, KafkaClientError> {
        Ok(ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()?)
    }

    /// With a client of its own each time: one that has met a broker that does not move stays with it.
    fn ends_blocking(&self, topic: &str) -> Result<BTreeMap<i32, i64>, KafkaClientError> {
        again_and_again(|| ends_of(&self.consumer("none")?, topic))
    }

    fn read_blocking(&self, topic: &str) -> Result<Vec<TopicRecord>, KafkaClientError> {
        let ends = self.ends_blocking(topic)?;
        let consumer = self.consumer("tap")?;
        // A partition is read when its last record has come, or its end is told, as behind a transaction's marker.
        let written = ends.iter().filter(|(_, end)| **end > 0);
        let mut open: std::collections::BTreeSet<i32> = written.map(|(partition, _)| *partition).collect();
        let mut assignment = TopicPartitionList::new();
        for partition in &open {
            assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let mut records = Vec::new();
        let until = Instant::now() + DEADLINE;
        while !open.is_empty() {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    if ends.get(&message.partition()) == Some(&(message.offset() + 1)) {
                        open.remove(&message.partition());
                    }
                    records.push(tapped(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) if Instant::now() >= until => return Err(error.into()),
                // The client connects anew by itself.
                Some(Err(_)) => std::thread::sleep(PAUSE),
                None if Instant::now() >= until => {
                    return Err(KafkaClientError::NotRead {
                        topic: topic.to_owned(),
                        waited: DEADLINE,
                    });
                }
                None => {}
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }
}

/// Asks until it is answered, or the deadline has passed.
fn again_and_again<T>(ask: impl Fn() -> Result<T, KafkaClientError>) -> Result<T, KafkaClientError> {
    let until = Instant::now() + DEADLINE;
    loop {
        match ask() {
            Err(_) if Instant::now() < until => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
}

fn ends_of(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, i64>, KafkaClientError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let partitions = metadata
        .topics()
        .first()
        .map_or(0, |topic| topic.partitions().len());
    (0..i32::try_from(partitions).unwrap_or(i32::MAX))
        .map(|partition| Ok((partition, consumer.fetch_watermarks(topic, partition, ANSWER)?.1)))
        .collect()
}

fn tapped(message: &BorrowedMessage<'_>) -> TopicRecord {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    TopicRecord {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect(),
    }
}
