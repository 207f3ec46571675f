//! The real stack behind the ingester: one Kafka for all tests that leave it alone, and for each of them a publisher
//! with a topic of its own, which is read back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::kafka_client::{KafkaClient, TopicRecord};
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::service::{Service, ServiceOptions};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Long enough for a cold JVM on a busy machine; no test waits for it to pass.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

static KAFKA: OnceCell<KafkaCluster> = OnceCell::const_new();
static SHARED: OnceCell<PublisherStack> = OnceCell::const_new();

/// Where the shared Kafka is.
pub(crate) async fn brokers() -> String {
    let kafka = KAFKA.get_or_init(async || KafkaCluster::shared().await.unwrap());
    kafka.await.bootstrap()
}

/// A Kafka for one test alone.
pub(crate) async fn own_kafka() -> KafkaCluster {
    KafkaCluster::lease(&KafkaOptions::default()).await.unwrap()
}

/// A publisher over real Kafka. It is killed when this is dropped.
pub(crate) struct PublisherStack {
    pub(crate) publisher: Service,
    pub(crate) topic: String,
    brokers: String,
}

/// What a topic holds: for each run and number, every record that was written under it.
pub(crate) struct TopicContents {
    numbers: BTreeMap<(String, u64), Vec<Value>>,
    /// How many records, repeats among them.
    pub(crate) written: usize,
}

impl PublisherStack {
    /// A stack of this test alone.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// One whose publisher has these settings, such as `limits.max_records`.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        Self::over(&brokers().await, settings).await
    }

    /// One over a Kafka that the test has made.
    pub(crate) async fn over(brokers: &str, settings: &[(&str, &str)]) -> Self {
        let topic = format!("users_{}", Uuid::new_v4().simple());
        let folder = testkit::workspace::target_dir().unwrap();
        let folder = folder.join("testkit").join("logs").join(&topic);
        std::fs::create_dir_all(&folder).unwrap();
        // Absent, it is built with: cargo build --release -p publisher
        let mut options = ServiceOptions::new("publisher", folder)
            .set("kafka.brokers", brokers)
            .set("kafka.topic", &topic);
        for (key, value) in settings {
            options = options.set(key, *value);
        }
        let publisher = Service::start(&options).unwrap();
        publisher.ready(DEADLINE).await.unwrap();
        let named = settings.iter().find(|(key, _)| *key == "kafka.topic");
        let stack = Self {
            publisher,
            topic: named.map_or(topic, |(_, topic)| (*topic).to_owned()),
            brokers: brokers.to_owned(),
        };
        stack.led().await;
        stack
    }

    /// Until each partition of the topic, which may be a moment old, has a leader that says where it ends.
    async fn led(&self) {
        let (until, tap) = (
            Instant::now() + DEADLINE,
            KafkaClient::new(&self.brokers).unwrap(),
        );
        loop {
            let ends = tap.ends(&self.topic).await;
            if ends.as_ref().is_ok_and(|ends| !ends.is_empty()) {
                return;
            }
            assert!(Instant::now() < until, "{}: {ends:?}", self.topic);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The one that tests share whose runs are told apart by their ids.
    pub(crate) async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start).await
    }

    /// Where the ingester posts to.
    pub(crate) fn url(&self) -> String {
        self.publisher.api()
    }

    /// The topic, from its beginning to its end.
    pub(crate) async fn topic_contents(&self) -> TopicContents {
        let tapped = self.tapped().await;
        let mut topic = TopicContents {
            numbers: BTreeMap::new(),
            written: tapped.len(),
        };
        for record in tapped {
            let value: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            assert_eq!(record.key.as_deref(), value["id"].as_str().map(str::as_bytes));
            let number = record.header("run-seq").unwrap().parse().unwrap();
            let run = record.header("run-id").unwrap().to_owned();
            topic.numbers.entry((run, number)).or_default().push(value);
        }
        topic
    }

    /// What lies in the topic. A topic that was made a moment ago, to which nothing was written, may have no leader yet
    /// when it is read.
    async fn tapped(&self) -> Vec<TopicRecord> {
        let (until, tap) = (
            Instant::now() + DEADLINE,
            KafkaClient::new(&self.brokers).unwrap(),
        );
        loop {
            let ends = tap.ends(&self.topic).await;
            let tapped = tap.read(&self.topic).await;
            match (&ends, tapped) {
                (Ok(ends), Ok(tapped)) if reaches(&tapped, ends) => return tapped,
                (ends, tapped) => assert!(
                    Instant::now() < until,
                    "{}: {:?} of {ends:?}",
                    self.topic,
                    tapped.map(|tapped| tapped.len())
                ),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The records of a run.
    pub(crate) async fn records_of(&self, run: impl Into<String>) -> Vec<Value> {
        self.topic_contents().await.records_of(run)
    }
}

/// Whether every record in front of the partitions' ends was read: nothing is ever taken out of these topics.
fn reaches(tapped: &[TopicRecord], ends: &BTreeMap<i32, i64>) -> bool {
    let read = |partition: i32| {
        tapped
            .iter()
            .filter(|record| record.partition == partition)
            .count()
    };
    ends.iter()
        .all(|(partition, end)| i64::try_from(read(*partition)).is_ok_and(|read| read >= *end))
}

impl TopicContents {
    /// The records of a run by their numbers, which begin at 0 and leave none out; each number is one record's, and
    /// each record, by its id, has one number.
    pub(crate) fn records_of(&self, run: impl Into<String>) -> Vec<Value> {
        let run: String = run.into();
        let of_run: Vec<_> = self.numbers.iter().filter(|((id, _), _)| *id == run).collect();
        let mut ids = BTreeMap::new();
        for (index, ((_, number), written)) in of_run.iter().enumerate() {
            assert_eq!(*number, index as u64, "a number is left out");
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

    /// The numbers of a run, where the publisher refused some.
    pub(crate) fn numbers_of(&self, run: impl Into<String>) -> Vec<u64> {
        let run: String = run.into();
        let of_run = self.numbers.keys().filter(|(id, _)| *id == run);
        of_run.map(|(_, number)| *number).collect()
    }

    /// The runs that wrote something.
    pub(crate) fn runs(&self) -> std::collections::BTreeSet<&str> {
        self.numbers.keys().map(|(run, _)| run.as_str()).collect()
    }
}
