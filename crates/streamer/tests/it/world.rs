//! What each test gets: a topic, a keyspace, a tap, a table, and streamers on them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::cassandra_client::{CassandraClient, UserRow};
use testkit::comparison::{differences, expected};
use testkit::kafka_client::{KafkaClient, ProducerRecord};
use testkit::servers::Stack;
use testkit::service::{Service, ServiceOptions};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Long enough for a cold JVM on a busy machine; no test waits for it to pass.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

static STACK: OnceCell<Stack> = OnceCell::const_new();

/// The servers that all tests share and none disturbs.
async fn stack() -> &'static Stack {
    STACK
        .get_or_init(|| async { Stack::shared().await.unwrap() })
        .await
}

/// A test's own part of the shared servers.
pub(crate) struct World {
    /// Its keyspace.
    pub(crate) keyspace: String,
    /// Its topic; dead letters go to `<topic>.dead_letter`.
    pub(crate) topic: String,
    /// Writes and reads topics.
    pub(crate) tap: KafkaClient,
    /// Reads the table.
    pub(crate) table: CassandraClient,
    stack: &'static Stack,
    contact_points: Vec<String>,
    folder: PathBuf,
}

impl World {
    /// A world without a topic, named after the test.
    pub(crate) async fn bare(name: &str) -> Self {
        Self::beside(name, stack().await.cassandra.contact_points()).await
    }

    /// A world without a topic, whose keyspace lies on another cluster.
    pub(crate) async fn beside(name: &str, contact_points: Vec<String>) -> Self {
        let stack = stack().await;
        let unique = &Uuid::new_v4().simple().to_string()[..8];
        let keyspace = format!("{name}_{unique}");
        let folder = testkit::workspace::target_dir()
            .unwrap()
            .join("testkit")
            .join("logs")
            .join(&keyspace);
        std::fs::create_dir_all(&folder).unwrap();
        Self {
            topic: keyspace.clone(),
            tap: KafkaClient::new(stack.kafka.bootstrap()).unwrap(),
            table: CassandraClient::connect(&contact_points, keyspace.clone())
                .await
                .unwrap(),
            keyspace,
            stack,
            contact_points,
            folder,
        }
    }

    /// A world whose topic has `partitions` partitions.
    pub(crate) async fn new(name: &str, partitions: i32) -> Self {
        Self::bare(name).await.with_topic(partitions).await
    }

    /// The same with its topic.
    pub(crate) async fn with_topic(self, partitions: i32) -> Self {
        self.create_topic(&self.topic, partitions).await;
        self
    }

    /// Where the first node of its cluster is found.
    pub(crate) fn node(&self) -> SocketAddr {
        self.contact_points[0].parse().unwrap()
    }

    /// Where its logs are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the shared Cassandra has logged about this world's tables.
    pub(crate) fn server_warnings(&self) -> Vec<String> {
        let log = self.stack.cassandra.node(0).unwrap().log();
        let log = std::fs::read_to_string(log).unwrap();
        let ours = format!("{}.", self.keyspace);
        let lines = log
            .lines()
            .filter(|line| line.contains(" WARN ") && line.contains(&ours));
        lines.map(str::to_owned).collect()
    }

    /// Bootstrap servers.
    pub(crate) fn bootstrap(&self) -> String {
        self.stack.kafka.bootstrap()
    }

    /// Creates a topic.
    pub(crate) async fn create_topic(&self, name: &str, partitions: i32) {
        self.stack.kafka.create_topic(name, partitions).await.unwrap();
    }

    /// How a streamer of this world is started.
    pub(crate) fn options(&self) -> ServiceOptions {
        ServiceOptions::new("streamer", &self.folder)
            .set("kafka.brokers", self.stack.kafka.bootstrap())
            .set("kafka.topic", &self.topic)
            .set("kafka.dead_letter_topic", self.dead_letter_topic())
            .set("kafka.group", &self.topic)
            .set("kafka.session_timeout", "6s")
            .set("cassandra.contact_points", self.contact_points.join(","))
            .set("cassandra.keyspace", &self.keyspace)
    }

    /// A streamer, ready.
    pub(crate) async fn streamer(&self) -> Service {
        self.start(&self.options()).await
    }

    /// A streamer with `options`, ready.
    pub(crate) async fn start(&self, options: &ServiceOptions) -> Service {
        let service = Service::start(options).unwrap();
        service.wait_until_ready(DEADLINE).await.unwrap();
        service
    }

    /// Where its dead letters go.
    pub(crate) fn dead_letter_topic(&self) -> String {
        format!("{}.dead_letter", self.topic)
    }

    /// Writes users to the topic as the publisher does.
    pub(crate) async fn write(&self, users: &[(Uuid, &str)]) {
        let records: Vec<_> = users.iter().map(|(id, name)| outgoing(*id, name)).collect();
        self.tap.write(&self.topic, &records).await.unwrap();
    }

    /// Waits until every partition's checkpoint is its end offset.
    pub(crate) async fn caught_up(&self) {
        let ends = self.tap.end_offsets(&self.topic).await.unwrap();
        eventually("the checkpoints are the end offsets", async || {
            let checkpoints = self
                .table
                .checkpoints(&self.topic, &self.topic)
                .await
                .unwrap_or_default();
            let next: BTreeMap<_, _> = checkpoints
                .iter()
                .map(|(p, checkpoint)| (*p, checkpoint.next_offset))
                .collect();
            if next == ends {
                Ok(())
            } else {
                Err(format!("checkpoints {next:?}, ends {ends:?}"))
            }
        })
        .await;
    }

    /// Holds the table against the whole topic.
    pub(crate) async fn table_is_the_log(&self) {
        let log = self.tap.read(&self.topic).await.unwrap();
        let users = self.table.users().await.unwrap();
        assert_eq!(differences(&expected(&log), &users), Vec::<String>::new());
    }

    /// Every row.
    pub(crate) async fn users(&self) -> BTreeMap<Uuid, UserRow> {
        self.table.users().await.unwrap()
    }
}

/// A record as the publisher writes it.
pub(crate) fn outgoing(id: Uuid, name: &str) -> ProducerRecord {
    ProducerRecord {
        key: Some(id.to_string().into_bytes()),
        value: Some(record(id, name)),
        headers: vec![("accepted-at-us".to_owned(), b"1700000000123456".to_vec())],
        ..ProducerRecord::default()
    }
}

/// The record of a user whose every text column carries `name`.
pub(crate) fn record(id: Uuid, name: &str) -> Vec<u8> {
    format!(
        r#"{{"id":"{id}","first_name":"{name}","last_name":"{name}","gender":"{name}","address":"{name}","post_code":"{name}","email":"{name}@x","username":"{name}","dob":"1969-07-20T20:17:40.000Z","registered_date":"2010-01-01T00:00:00.001Z","phone":"{name}","picture":"{name}"}}"#
    )
    .into_bytes()
}

/// `count` new users.
pub(crate) fn people(count: usize) -> Vec<(Uuid, &'static str)> {
    (0..count).map(|_| (Uuid::new_v4(), "someone")).collect()
}

/// Waits until `check` holds; panics with its last objection.
pub(crate) async fn eventually(what: &str, check: impl AsyncFn() -> Result<(), String>) {
    let until = Instant::now() + DEADLINE;
    loop {
        let Err(objection) = check().await else { return };
        assert!(
            Instant::now() < until,
            "never came true: {what}; last: {objection}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl World {
    /// Waits until the streamer is in the middle of its work.
    pub(crate) async fn busy(&self, streamer: &testkit::service::Service) {
        eventually("rows are being written", async || {
            let rows = streamer
                .metric("streamer_rows_total", "")
                .await
                .map_err(|error| error.to_string())?;
            if rows.unwrap_or(0.0) > 0.0 {
                Ok(())
            } else {
                Err("none yet".to_owned())
            }
        })
        .await;
    }

    /// The sum of the checkpoints' offsets.
    pub(crate) async fn checkpointed(&self) -> i64 {
        self.table
            .checkpoints(&self.topic, &self.topic)
            .await
            .unwrap_or_default()
            .values()
            .map(|checkpoint| checkpoint.next_offset)
            .sum()
    }

    /// Deletes the topic.
    pub(crate) async fn delete_topic(&self) {
        let admin: rdkafka::admin::AdminClient<_> = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .create()
            .unwrap();
        let options = rdkafka::admin::AdminOptions::new().operation_timeout(Some(DEADLINE));
        for result in admin.delete_topics(&[&self.topic], &options).await.unwrap() {
            result.unwrap();
        }
    }

    /// A tap that has never heard of the topic before.
    pub(crate) fn tap_anew(&self) -> KafkaClient {
        KafkaClient::new(self.bootstrap()).unwrap()
    }
}
