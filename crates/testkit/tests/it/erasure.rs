//! Erasure: a person goes through the whole pipeline, once as a dead letter, and is deleted. After the retentions no byte
//! of the person is left but the key.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use reqwest::Method;
use testkit::cassandra_client::CassandraClient;
use testkit::kafka_client::{KafkaClient, ProducerRecord};
use testkit::randomuser::{Options, RandomUserApi};
use testkit::servers::pool::Access;
use testkit::servers::{CassandraCluster, CassandraOptions, KafkaCluster, KafkaOptions};
use testkit::service::{Service, ServiceOptions};
use testkit::workspace;
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(120);
const TABLE: &str = "created_users";

/// The pipeline with the person's data in its reach.
struct TestEnv {
    kafka: KafkaCluster,
    cassandra: CassandraCluster,
    keyspace: String,
    topic: String,
    folder: PathBuf,
}

impl TestEnv {
    async fn start() -> Self {
        let keyspace = format!("erasure_{}", &Uuid::new_v4().simple().to_string()[..8]);
        let folder = workspace::target_dir().unwrap().join("testkit").join("logs");
        let folder = folder.join(&keyspace);
        std::fs::create_dir_all(&folder).unwrap();
        // The test searches for bytes, so records are not compressed.
        let options = KafkaOptions::unusual();
        let cassandra = CassandraOptions::default();
        let (kafka, cassandra) = tokio::try_join!(
            KafkaCluster::lease(&options, Access::Shared),
            CassandraCluster::lease(&cassandra, Access::Shared),
        )
        .unwrap();
        Self {
            kafka,
            cassandra,
            topic: keyspace.clone(),
            keyspace,
            folder,
        }
    }

    fn letters(&self) -> String {
        format!("{}.dead_letter", self.topic)
    }

    fn publisher(&self) -> ServiceOptions {
        ServiceOptions::new("publisher", &self.folder)
            .set("kafka.brokers", self.kafka.bootstrap())
            .set("kafka.topic", &self.topic)
            .set("kafka.partitions", "1")
    }

    fn streamer(&self) -> ServiceOptions {
        ServiceOptions::new("streamer", &self.folder)
            .set("kafka.brokers", self.kafka.bootstrap())
            .set("kafka.topic", &self.topic)
            .set("kafka.dead_letter_topic", self.letters())
            .set("kafka.partitions", "1")
            .set("kafka.group", &self.topic)
            .set(
                "cassandra.contact_points",
                self.cassandra.contact_points().join(","),
            )
            .set("cassandra.keyspace", &self.keyspace)
    }

    /// Runs a command of the streamer. Returns its exit code and its output.
    async fn command(&self, options: ServiceOptions, arguments: &str) -> (Option<i32>, String) {
        let log = format!("command-{}", Uuid::new_v4().simple());
        let options = arguments
            .split_whitespace()
            .fold(options.log_name(log), |options, argument| options.arg(argument));
        let command = Service::start(&options).unwrap();
        let code = command.wait(TIMEOUT).await.unwrap();
        (code, command.last_lines(50))
    }

    fn topic_files(&self) -> PathBuf {
        self.kafka.nodes()[0].folder().to_owned()
    }

    fn table_files(&self) -> PathBuf {
        self.cassandra.nodes()[0]
            .folder()
            .join("data")
            .join(&self.keyspace)
    }

    /// Writes memtables to SSTables, and merges them.
    async fn compact(&self) {
        for command in ["flush", "compact"] {
            let arguments = [command, &self.keyspace, TABLE];
            self.cassandra.nodetool().run(&arguments).await.unwrap();
        }
    }
}

/// Returns the files below a folder that have one of the texts. Files that disappear meanwhile have none.
fn files_with(folder: &Path, texts: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let extension = path.extension().unwrap_or_default();
        if path.is_dir() {
            found.extend(files_with(&path, texts));
        } else if extension == "index" || extension == "timeindex" {
            // Kafka's indexes are large and have offsets and times only.
        } else if std::fs::read(&path).is_ok_and(|bytes| has_any(&bytes, texts)) {
            found.push(path);
        }
    }
    found
}

fn has_any(bytes: &[u8], texts: &[String]) -> bool {
    let has = |text: &String| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    texts.iter().any(has)
}

/// Waits until `check` succeeds. Panics with its last error at the deadline.
async fn eventually(what: &str, check: impl AsyncFn() -> Result<(), String>) {
    let until = Instant::now() + TIMEOUT;
    loop {
        let Err(error) = check().await else { return };
        assert!(Instant::now() < until, "timed out waiting until {what}: {error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn none_of(files: &[PathBuf]) -> Result<(), String> {
    if files.is_empty() {
        Ok(())
    } else {
        Err(format!("{files:?}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_person_leaves_nothing_but_the_key() {
    let env = TestEnv::start().await;
    let publisher = Service::start(&env.publisher()).unwrap();
    let streamer = Service::start(&env.streamer()).unwrap();
    publisher.wait_until_ready(TIMEOUT).await.unwrap();
    streamer.wait_until_ready(TIMEOUT).await.unwrap();
    let table = CassandraClient::connect(&env.cassandra.contact_points(), &*env.keyspace)
        .await
        .unwrap();
    // Deletions may be dropped at once, and SSTables have the bytes as they are.
    table
        .run("ALTER TABLE {table} WITH gc_grace_seconds = 0 AND compression = {'enabled': 'false'}")
        .await
        .unwrap();

    // The API's person becomes a row, and a dead letter when the record comes again, broken.
    let api = RandomUserApi::start(Options::unlimited()).await.unwrap();
    let state = env.folder.join("state");
    std::fs::create_dir_all(&state).unwrap();
    let ingester = ServiceOptions::new("ingester", &env.folder)
        .arg("once")
        .arg("--users")
        .arg("1")
        .arg("--seed")
        .arg(Uuid::new_v4().simple().to_string())
        .set("source.url", format!("{}/api/1.4/", api.url()))
        .set("source.page_size", "1")
        .set("state.path", state.join("state.db").display().to_string())
        .set("publisher.url", publisher.api());
    let ingester = Service::start(&ingester).unwrap();
    assert_eq!(
        ingester.wait(TIMEOUT).await.unwrap(),
        Some(0),
        "{}",
        ingester.last_lines(20)
    );
    let kafka = KafkaClient::new(env.kafka.bootstrap()).unwrap();
    let record = kafka.read(&env.topic).await.unwrap().remove(0);
    let mut broken = record.value.unwrap();
    broken.pop();
    let broken = ProducerRecord {
        key: record.key,
        value: Some(broken),
        ..ProducerRecord::default()
    };
    kafka.write(&env.topic, &[broken]).await.unwrap();
    eventually("the person is a row and a dead letter", async || {
        let rows = table.count().await.map_err(|error| error.to_string())?;
        let letters = kafka
            .read(&env.letters())
            .await
            .map_err(|error| error.to_string())?;
        match (rows, letters.len()) {
            (1, 1) => Ok(()),
            found => Err(format!("{found:?}")),
        }
    })
    .await;
    let users = table.users().await.unwrap();
    let (id, person) = users.first_key_value().unwrap();
    let personal = ["email", "username", "phone", "address"];
    let personal: Vec<_> = personal.iter().map(|name| person[*name].clone()).collect();
    assert!(
        personal.iter().all(|text| text.len() >= 6),
        "too short to be unique"
    );

    // The search finds the person in each place that is searched later.
    env.compact().await;
    assert!(!files_with(&env.table_files(), &personal).is_empty());
    let segments = files_with(&env.topic_files(), &personal);
    let is_in = |topic: &str| {
        let folder = format!("/{topic}-");
        segments
            .iter()
            .any(|file| file.display().to_string().contains(&folder))
    };
    assert!(is_in(&env.topic) && is_in(&env.letters()), "{segments:?}");
    let (code, output) = env.command(env.streamer(), &format!("erasure-report {id}")).await;
    assert!(
        code == Some(1) && output.contains("copies: 3, rows: 1, tombstones: 0"),
        "{output}"
    );

    let deletion = publisher.request(Method::DELETE, &format!("/v1/users/{id}"));
    let response = deletion.send().await.unwrap();
    assert!(response.status().is_success(), "{}", response.status());
    eventually("the row is deleted", async || {
        match table.count().await.map_err(|error| error.to_string())? {
            0 => Ok(()),
            rows => Err(format!("{rows} rows")),
        }
    })
    .await;

    // A retention of a second instead of days, for the records and then for the dead letters.
    expire(&env).await;
    let short = env
        .streamer()
        .set("kafka.retention", "1s")
        .set("dead_letters.retention", "1s");
    let (code, output) = env.command(short, "dead-letters retention --apply").await;
    assert!(code == Some(0) && output.contains("is changed"), "{output}");
    eventually("the segments are deleted", async || {
        none_of(&files_with(&env.topic_files(), &personal))
    })
    .await;
    eventually("the SSTables are compacted", async || {
        env.compact().await;
        none_of(&files_with(&env.table_files(), &personal))
    })
    .await;
    let (code, output) = env.command(env.streamer(), &format!("erasure-report {id}")).await;
    assert!(code == Some(0) && output.contains("erased: yes"), "{output}");

    // Logs of the services and of the commands, and the ingester's state.
    assert_eq!(files_with(&env.folder, &personal), Vec::<PathBuf>::new());
    for service in [&publisher, &streamer] {
        for path in ["/metrics", "/status", "/readyz"] {
            let (_, body) = service.get(path).await.unwrap();
            assert!(!has_any(body.as_bytes(), &personal), "{path} of a service");
        }
    }
}

/// Lets the records of the topic expire.
async fn expire(env: &TestEnv) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", env.kafka.bootstrap())
        .create()
        .unwrap();
    let change = AlterConfig::new(ResourceSpecifier::Topic(&env.topic))
        .set("retention.ms", "1000")
        .set("segment.ms", "1000");
    let altered = admin.alter_configs([&change], &AdminOptions::new()).await;
    altered.unwrap()[0].as_ref().unwrap();
}
