//! The real publisher and Kafka behind the ingester. Tests that do not disturb Kafka share one cluster. Each test has its
//! own publisher and topic, which is read back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::kafka_client::{KafkaClient, TopicRecord};
use testkit::servers::pool::Access;
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::service::{Service, ServiceOptions};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::support::TIMEOUT;

static KAFKA: OnceCell<KafkaCluster> = OnceCell::const_new();
static SHARED: OnceCell<PublisherStack> = OnceCell::const_new();

/// Returns the bootstrap servers of the shared Kafka.
pub(crate) async fn brokers() -> String {
    let kafka = KAFKA.get_or_init(async || {
        KafkaCluster::lease(&KafkaOptions::default(), Access::Shared)
            .await
            .unwrap()
    });
    kafka.await.bootstrap()
}

/// Starts a Kafka for one test.
pub(crate) async fn own_kafka() -> KafkaCluster {
    KafkaCluster::lease(&KafkaOptions::default(), Access::Exclusive)
        .await
        .unwrap()
}

/// A publisher with real Kafka. Dropping it kills the publisher.
pub(crate) struct PublisherStack {
    pub(crate) publisher: Service,
    pub(crate) topic: String,
    brokers: String,
}

/// Contents of a topic: the records by run id and sequence number.
pub(crate) struct TopicContents {
    numbers: BTreeMap<(String, u64), Vec<Value>>,
    /// Number of records, including repeats.
    pub(crate) written: usize,
}

impl PublisherStack {
    /// Starts a stack for one test.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a stack with publisher settings, such as `limits.max_records`.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        Self::over(&brokers().await, settings).await
    }

    /// Starts a publisher for the Kafka at `brokers`.
    pub(crate) async fn over(brokers: &str, settings: &[(&str, &str)]) -> Self {
        let topic = format!("users_{}", Uuid::new_v4().simple());
        let folder = testkit::workspace::target_dir().unwrap();
        let folder = folder.join("testkit").join("logs").join(&topic);
        std::fs::create_dir_all(&folder).unwrap();
        // Build it with: cargo build --release -p publisher
        let mut options = ServiceOptions::new("publisher", folder)
            .set("kafka.brokers", brokers)
            .set("kafka.topic", &topic);
        for (key, value) in settings {
            options = options.set(key, *value);
        }
        let publisher = Service::start(&options).unwrap();
        publisher.wait_until_ready(TIMEOUT).await.unwrap();
        let named = settings.iter().find(|(key, _)| *key == "kafka.topic");
        let stack = Self {
            publisher,
            topic: named.map_or(topic, |(_, topic)| (*topic).to_owned()),
            brokers: brokers.to_owned(),
        };
        stack.wait_for_leaders().await;
        stack
    }

    /// Waits until each partition of the new topic has a leader.
    async fn wait_for_leaders(&self) {
        let (until, client) = (Instant::now() + TIMEOUT, KafkaClient::new(&self.brokers).unwrap());
        loop {
            let ends = client.end_offsets(&self.topic).await;
            if ends.as_ref().is_ok_and(|ends| !ends.is_empty()) {
                return;
            }
            assert!(Instant::now() < until, "{}: {ends:?}", self.topic);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the shared stack. Its runs are distinguished by id.
    pub(crate) async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start).await
    }

    /// Returns the URL of the publisher.
    pub(crate) fn url(&self) -> String {
        self.publisher.api()
    }

    /// Reads the whole topic.
    pub(crate) async fn topic_contents(&self) -> TopicContents {
        let records = self.records().await;
        let mut contents = TopicContents {
            numbers: BTreeMap::new(),
            written: records.len(),
        };
        for record in records {
            let value: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            assert_eq!(record.key.as_deref(), value["id"].as_str().map(str::as_bytes));
            let number = record.header("run-seq").unwrap().parse().unwrap();
            let run = record.header("run-id").unwrap().to_owned();
            contents.numbers.entry((run, number)).or_default().push(value);
        }
        contents
    }

    /// Reads all records of the topic. Retries, because a new topic may have no leader yet.
    async fn records(&self) -> Vec<TopicRecord> {
        let (until, client) = (Instant::now() + TIMEOUT, KafkaClient::new(&self.brokers).unwrap());
        loop {
            let ends = client.end_offsets(&self.topic).await;
            let records = client.read(&self.topic).await;
            match (&ends, records) {
                (Ok(ends), Ok(records)) if reaches(&records, ends) => return records,
                (ends, records) => assert!(
                    Instant::now() < until,
                    "{}: {:?} of {ends:?}",
                    self.topic,
                    records.map(|records| records.len())
                ),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns the records of a run.
    pub(crate) async fn records_of(&self, run: impl Into<String>) -> Vec<Value> {
        self.topic_contents().await.records_of(run)
    }
}

/// Whether every record up to the end offsets was read; these topics have no retention.
fn reaches(records: &[TopicRecord], ends: &BTreeMap<i32, i64>) -> bool {
    let read = |partition: i32| {
        records
            .iter()
            .filter(|record| record.partition == partition)
            .count()
    };
    ends.iter()
        .all(|(partition, end)| i64::try_from(read(*partition)).is_ok_and(|read| read >= *end))
}

impl TopicContents {
    /// Returns the records of a run by sequence number. Asserts that numbers start at 0 without gaps, that each number has
    /// one record, and that each record id has one number.
    pub(crate) fn records_of(&self, run: impl Into<String>) -> Vec<Value> {
        let run: String = run.into();
        let of_run: Vec<_> = self.numbers.iter().filter(|((id, _), _)| *id == run).collect();
        let mut ids = BTreeMap::new();
        for (index, ((_, number), written)) in of_run.iter().enumerate() {
            assert_eq!(*number, index as u64, "a sequence number is missing");
            assert!(
                written.iter().all(|record| *record == written[0]),
                "two records under number {number}"
            );
            let earlier = ids.insert(written[0]["id"].to_string(), number);
            assert_eq!(earlier, None, "{} has two numbers", written[0]["id"]);
        }
        of_run
            .into_iter()
            .map(|(_, written)| written[0].clone())
            .collect()
    }

    /// Returns the sequence numbers of a run with rejected records.
    pub(crate) fn numbers_of(&self, run: impl Into<String>) -> Vec<u64> {
        let run: String = run.into();
        let of_run = self.numbers.keys().filter(|(id, _)| *id == run);
        of_run.map(|(_, number)| *number).collect()
    }

    /// Returns the ids of all runs.
    pub(crate) fn runs(&self) -> std::collections::BTreeSet<&str> {
        self.numbers.keys().map(|(run, _)| run.as_str()).collect()
    }
}
