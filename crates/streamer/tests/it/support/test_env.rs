//! The environment of a test: topic, keyspace, clients of both, and streamers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Contract;
use testkit::cassandra_client::{CassandraClient, UserRow};
use testkit::comparison::{differences, expected};
use testkit::kafka_client::{KafkaClient, ProducerRecord, TopicRecord};
use testkit::servers::Stack;
use testkit::service::{Service, ServiceOptions};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// All columns of a user with a write timestamp and a time to live: those outside of the key.
pub(crate) const COLUMNS: [&str; 12] = [
    "first_name",
    "last_name",
    "gender",
    "address",
    "post_code",
    "email",
    "username",
    "dob",
    "registered_date",
    "phone",
    "picture",
    "ingested_at",
];

/// Deadline of every wait. It allows for a cold JVM on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Session timeout of a single member that a test kills: its partitions rest as long. On a busy machine a session may also
/// end by itself, which causes a rebalance if there are several members.
pub(crate) const KILLED_SESSION: &str = "2s";

static STACK: OnceCell<Stack> = OnceCell::const_new();

/// Returns the servers that all tests share. No test disturbs them.
async fn stack() -> &'static Stack {
    STACK
        .get_or_init(|| async { Stack::shared().await.unwrap() })
        .await
}

/// A topic and a keyspace of one test.
pub(crate) struct TestEnv {
    pub(crate) keyspace: String,
    /// The topic, which is also the group. Dead letters go to `<topic>.dead_letter`.
    pub(crate) topic: String,
    /// A client that writes and reads topics.
    pub(crate) kafka: KafkaClient,
    /// A client that reads and changes tables.
    pub(crate) cassandra: CassandraClient,
    contract: Arc<Contract>,
    stack: &'static Stack,
    contact_points: Vec<String>,
    folder: PathBuf,
}

impl TestEnv {
    /// Creates an environment without a topic on the shared servers.
    pub(crate) async fn without_topic(name: &str) -> Self {
        Self::on_cluster(name, stack().await.cassandra.contact_points()).await
    }

    /// Creates an environment without a topic, with its keyspace on another Cassandra cluster.
    pub(crate) async fn on_cluster(name: &str, contact_points: Vec<String>) -> Self {
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
            kafka: KafkaClient::new(stack.kafka.bootstrap()).unwrap(),
            cassandra: CassandraClient::connect(&contact_points, keyspace.clone())
                .await
                .unwrap(),
            keyspace,
            contract: Contract::user(),
            stack,
            contact_points,
            folder,
        }
    }

    /// Reads a table of this contract's records.
    pub(crate) fn for_record(self, contract: Arc<Contract>, table: &str) -> Self {
        Self {
            cassandra: self.cassandra.for_record(Arc::clone(&contract), table),
            contract,
            ..self
        }
    }

    /// Creates an environment whose topic has `partitions` partitions.
    pub(crate) async fn new(name: &str, partitions: i32) -> Self {
        Self::without_topic(name).await.with_topic(partitions).await
    }

    /// Creates the topic with `partitions` partitions.
    pub(crate) async fn with_topic(self, partitions: i32) -> Self {
        self.create_topic(&self.topic, partitions).await;
        self
    }

    /// Changes settings of an entity of Kafka.
    pub(crate) async fn alter_config(&self, entity: (&str, &str), change: &[&str]) {
        self.stack.kafka.alter_config(entity, change).await.unwrap();
    }

    /// Returns the address of the first Cassandra node.
    pub(crate) fn node(&self) -> SocketAddr {
        self.contact_points[0].parse().unwrap()
    }

    /// Returns the folder of the logs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the warnings about this keyspace in the log of the shared Cassandra.
    pub(crate) fn server_warnings(&self) -> Vec<String> {
        let log = self.stack.cassandra.node(0).unwrap().log();
        let log = std::fs::read_to_string(log).unwrap();
        let qualifier = format!("{}.", self.keyspace);
        let lines = log
            .lines()
            .filter(|line| line.contains(" WARN ") && line.contains(&qualifier));
        lines.map(str::to_owned).collect()
    }

    /// Returns Kafka's bootstrap servers.
    pub(crate) fn bootstrap(&self) -> String {
        self.stack.kafka.bootstrap()
    }

    /// Creates a topic.
    pub(crate) async fn create_topic(&self, name: &str, partitions: i32) {
        self.stack.kafka.create_topic(name, partitions).await.unwrap();
    }

    /// Returns the options of a streamer of this environment.
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

    /// Starts a streamer, and waits until it is ready.
    pub(crate) async fn streamer(&self) -> Service {
        self.start(&self.options()).await
    }

    /// Starts a streamer with `options`, and waits until it is ready.
    pub(crate) async fn start(&self, options: &ServiceOptions) -> Service {
        let service = Service::start(options).unwrap();
        service.wait_until_ready(DEADLINE).await.unwrap();
        service
    }

    /// Returns the name of the dead-letter topic.
    pub(crate) fn dead_letter_topic(&self) -> String {
        format!("{}.dead_letter", self.topic)
    }

    /// Writes users to the topic as the publisher does.
    pub(crate) async fn write(&self, users: &[(Uuid, &str)]) {
        let records: Vec<_> = users.iter().map(|(id, name)| outgoing(*id, name)).collect();
        self.kafka.write(&self.topic, &records).await.unwrap();
    }

    /// Waits until the checkpoint of each partition is its end offset.
    pub(crate) async fn wait_until_caught_up(&self) {
        let ends = self.kafka.end_offsets(&self.topic).await.unwrap();
        eventually("the checkpoints are the end offsets", async || {
            let checkpoints = self
                .cassandra
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

    /// Checks that each row is the last record of its primary key, and that there is no other row.
    pub(crate) async fn assert_table_matches_topic(&self) {
        let log = self.kafka.read(&self.topic).await.unwrap();
        self.assert_table_matches(&log).await;
    }

    /// Checks that each row is the last record of its primary key in `log`, and that there is no other row.
    pub(crate) async fn assert_table_matches(&self, log: &[TopicRecord]) {
        let rows = self.cassandra.rows().await.unwrap();
        let expected = expected(&self.contract, log);
        assert_eq!(differences(&expected, &rows), Vec::<String>::new());
    }

    /// Returns all rows.
    pub(crate) async fn users(&self) -> BTreeMap<Uuid, UserRow> {
        self.cassandra.users().await.unwrap()
    }
}

/// Creates a record as the publisher writes it.
pub(crate) fn outgoing(id: Uuid, name: &str) -> ProducerRecord {
    ProducerRecord {
        key: Some(id.to_string().into_bytes()),
        value: Some(record(id, name)),
        headers: vec![("accepted-at-us".to_owned(), b"1700000000123456".to_vec())],
        ..ProducerRecord::default()
    }
}

/// Encodes a user with `name` in every text column.
pub(crate) fn record(id: Uuid, name: &str) -> Vec<u8> {
    format!(
        r#"{{"id":"{id}","first_name":"{name}","last_name":"{name}","gender":"{name}","address":"{name}","post_code":"{name}","email":"{name}@x","username":"{name}","dob":"1969-07-20T20:17:40.000Z","registered_date":"2010-01-01T00:00:00.001Z","phone":"{name}","picture":"{name}"}}"#
    )
    .into_bytes()
}

/// Creates `count` users.
pub(crate) fn new_users(count: usize) -> Vec<(Uuid, &'static str)> {
    (0..count).map(|_| (Uuid::new_v4(), "someone")).collect()
}

/// Waits until `check` succeeds. Panics with its last error at the deadline.
pub(crate) async fn eventually(what: &str, check: impl AsyncFn() -> Result<(), String>) {
    let until = Instant::now() + DEADLINE;
    loop {
        let Err(error) = check().await else { return };
        assert!(Instant::now() < until, "timed out waiting until {what}: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl TestEnv {
    /// Waits until the streamer has written a row.
    pub(crate) async fn wait_for_rows(&self, streamer: &testkit::service::Service) {
        eventually("rows are written", async || {
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

    /// Returns the sum of the checkpoints' offsets.
    pub(crate) async fn checkpoint_sum(&self) -> i64 {
        self.cassandra
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

    /// Creates a Kafka client without cached metadata of the topic.
    pub(crate) fn fresh_kafka_client(&self) -> KafkaClient {
        KafkaClient::new(self.bootstrap()).unwrap()
    }
}
