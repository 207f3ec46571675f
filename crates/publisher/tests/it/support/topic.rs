//! Reads the records of a topic with a plain consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _, Timestamp};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, message};
use serde_json::Value;
use tokio::time::Instant;

use super::harness::TIMEOUT;

/// A topic and its brokers.
#[derive(Clone)]
pub(crate) struct Topic {
    pub(crate) brokers: String,
    pub(crate) name: String,
}

/// A record of a topic.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) log_append_time: bool,
}

impl Record {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.value.as_ref().unwrap()).unwrap()
    }
}

impl Topic {
    pub(crate) fn new(brokers: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            name: super::broker::unique_topic(),
        }
    }

    /// Reads all current records, partition by partition.
    pub(crate) async fn read(&self) -> Vec<Record> {
        let topic = self.clone();
        tokio::task::spawn_blocking(move || topic.read_now())
            .await
            .unwrap()
    }

    /// Reads the keys of all records.
    pub(crate) async fn ids(&self) -> BTreeSet<String> {
        self.read().await.into_iter().map(|record| record.key).collect()
    }

    /// The first and the next offset. Retries, because metadata lists a new topic before its leaders respond.
    fn watermarks(&self, consumer: &BaseConsumer, partition: i32) -> (i64, i64) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match consumer.fetch_watermarks(&self.name, partition, Duration::from_secs(5)) {
                Ok(watermarks) => return watermarks,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn read_now(&self) -> Vec<Record> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", &self.name)
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(&self.name), TIMEOUT).unwrap();
        let mut assignment = TopicPartitionList::new();
        let mut expected = 0;
        for partition in metadata.topics()[0].partitions() {
            let (low, high) = self.watermarks(&consumer, partition.id());
            expected += usize::try_from(high - low).unwrap();
            assignment
                .add_partition_offset(&self.name, partition.id(), Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let deadline = Instant::now() + TIMEOUT;
        let mut records = Vec::new();
        while records.len() < expected {
            assert!(
                Instant::now() < deadline,
                "{} of {expected} records read",
                records.len()
            );
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                records.push(record(&message.unwrap()));
            }
        }
        records
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let headers = message
        .headers()
        .into_iter()
        .flat_map(message::BorrowedHeaders::iter);
    Record {
        key: text(message.key().unwrap()),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.to_owned(), text(header.value.unwrap())))
            .collect(),
        partition: message.partition(),
        offset: message.offset(),
        log_append_time: matches!(message.timestamp(), Timestamp::LogAppendTime(_)),
    }
}
