//! A topic of a test, and its records as text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use testkit::kafka_client::{KafkaClient, TopicRecord};

/// A topic and its brokers.
#[derive(Clone)]
pub(crate) struct Topic {
    pub(crate) brokers: String,
    pub(crate) name: String,
}

/// A record that the publisher has written.
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

impl From<TopicRecord> for Record {
    fn from(record: TopicRecord) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let headers = record.headers.into_iter();
        Self {
            key: text(record.key.unwrap()),
            value: record.value,
            headers: headers.map(|(name, value)| (name, text(value))).collect(),
            partition: record.partition,
            offset: record.offset,
            log_append_time: record.log_append_time,
        }
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
        let client = KafkaClient::new(&self.brokers).unwrap();
        let records = client.read(&self.name).await.unwrap();
        records.into_iter().map(Record::from).collect()
    }

    /// Reads the keys of all records.
    pub(crate) async fn ids(&self) -> BTreeSet<String> {
        self.read().await.into_iter().map(|record| record.key).collect()
    }
}
