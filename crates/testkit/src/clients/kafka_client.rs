//! A Kafka client that writes records of any shape and reads a topic from its beginning to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Message as _, OwnedHeaders, Timestamp};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use thiserror::Error;

/// A record to write.
#[derive(Debug, Clone, Default)]
pub struct ProducerRecord {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The partition; `None` chooses by murmur2.
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
    /// Whether the broker set the timestamp.
    pub log_append_time: bool,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Headers; the last one of a name wins.
    pub headers: BTreeMap<String, Vec<u8>>,
}

impl TopicRecord {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.headers.get(name)?).ok()
    }
}

/// Why a read or write failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum KafkaClientError {
    #[error("failed to access Kafka")]
    Kafka(#[from] KafkaError),
    #[error("failed to read topic {topic} to its end within {} s", waited.as_secs())]
    NotRead { topic: String, waited: Duration },
}

/// A client of one cluster.
#[derive(Clone)]
pub struct KafkaClient {
    bootstrap: String,
    producer: FutureProducer,
}

/// For an operation with all its attempts.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For one request. A frozen broker accepts requests and never responds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_DELAY: Duration = Duration::from_millis(200);

impl KafkaClient {
    /// Creates a client, which connects at its first use.
    pub fn new(bootstrap: impl Into<String>) -> Result<Self, KafkaClientError> {
        Self::with_compression(bootstrap, "none")
    }

    /// Creates a client that compresses its batches with this codec, such as `lz4`.
    pub fn with_compression(bootstrap: impl Into<String>, codec: &str) -> Result<Self, KafkaClientError> {
        let bootstrap = bootstrap.into();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "1000000")
            .set("linger.ms", "2")
            .set("compression.type", codec)
            .create()?;
        Ok(Self { bootstrap, producer })
    }

    /// Writes records and waits until all are acknowledged. Returns partition and offset of each.
    pub async fn write(
        &self,
        topic: &str,
        records: &[ProducerRecord],
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

    fn record<'a>(&self, topic: &'a str, record: &'a ProducerRecord) -> FutureRecord<'a, [u8], [u8]> {
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

    /// Returns all records of the topic, partition by partition. Retries the errors of a broker that has just restarted.
    pub async fn read(&self, topic: &str) -> Result<Vec<TopicRecord>, KafkaClientError> {
        self.blocking(topic, Self::read_blocking).await
    }

    /// Returns the end offset of each partition.
    pub async fn end_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>, KafkaClientError> {
        self.blocking(topic, Self::end_offsets_blocking).await
    }

    /// Returns the leader of each partition; negative for a partition without one.
    pub async fn leaders(&self, topic: &str) -> Result<BTreeMap<i32, i32>, KafkaClientError> {
        self.blocking(topic, |client, topic| {
            retry(|| {
                let metadata = client
                    .consumer("none")?
                    .fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
                let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
                Ok(partitions.map(|it| (it.id(), it.leader())).collect())
            })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        topic: &str,
        operation: fn(&Self, &str) -> Result<T, KafkaClientError>,
    ) -> Result<T, KafkaClientError> {
        let (client, topic) = (self.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || operation(&client, &topic))
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

    /// Uses a new client for each attempt, because a client keeps the connection to a frozen broker.
    fn end_offsets_blocking(&self, topic: &str) -> Result<BTreeMap<i32, i64>, KafkaClientError> {
        retry(|| end_offsets(&self.consumer("none")?, topic))
    }

    fn read_blocking(&self, topic: &str) -> Result<Vec<TopicRecord>, KafkaClientError> {
        let ends = self.end_offsets_blocking(topic)?;
        let consumer = self.consumer("testkit")?;
        // A partition ends with its last record, or with an EOF when a transaction marker follows that.
        let written = ends.iter().filter(|(_, end)| **end > 0);
        let mut open: BTreeSet<i32> = written.map(|(partition, _)| *partition).collect();
        let mut assignment = TopicPartitionList::new();
        for partition in &open {
            assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let mut records = Vec::new();
        let until = Instant::now() + TIMEOUT;
        while !open.is_empty() {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    if ends.get(&message.partition()) == Some(&(message.offset() + 1)) {
                        open.remove(&message.partition());
                    }
                    records.push(topic_record(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) if Instant::now() >= until => return Err(error.into()),
                // The client reconnects.
                Some(Err(_)) => std::thread::sleep(RETRY_DELAY),
                None if Instant::now() >= until => {
                    return Err(KafkaClientError::NotRead {
                        topic: topic.to_owned(),
                        waited: TIMEOUT,
                    });
                }
                None => {}
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }
}

/// Repeats the request until it succeeds or times out.
fn retry<T>(request: impl Fn() -> Result<T, KafkaClientError>) -> Result<T, KafkaClientError> {
    let until = Instant::now() + TIMEOUT;
    loop {
        match request() {
            Err(_) if Instant::now() < until => std::thread::sleep(RETRY_DELAY),
            outcome => return outcome,
        }
    }
}

fn end_offsets(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, i64>, KafkaClientError> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
    let partitions = metadata
        .topics()
        .first()
        .map_or(0, |topic| topic.partitions().len());
    (0..i32::try_from(partitions).unwrap_or(i32::MAX))
        .map(|partition| {
            Ok((
                partition,
                consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)?.1,
            ))
        })
        .collect()
}

fn topic_record(message: &BorrowedMessage<'_>) -> TopicRecord {
    TopicRecord {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        log_append_time: matches!(message.timestamp(), Timestamp::LogAppendTime(_)),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: ::kafka::headers::headers(message)
            .map(|(name, value)| {
                let name = String::from_utf8_lossy(name).into_owned();
                (name, value.unwrap_or_default().to_vec())
            })
            .collect(),
    }
}
