//! The secured servers, with the names of one test.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::cassandra_client::CassandraClient;
use testkit::certificates::CertificateAuthority;
use testkit::kafka_client::{KafkaClient, ProducerRecord};
use testkit::randomuser::{Options, RandomUserApi};
use testkit::servers::{CassandraCluster, KafkaCluster, secured};
use testkit::service::{Service, ServiceOptions};
use testkit::workspace;
use uuid::Uuid;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(90);

/// Servers, and the topic and keyspace of a test.
pub(crate) struct SecuredEnv {
    pub(crate) kafka: KafkaCluster,
    pub(crate) cassandra: CassandraCluster,
    pub(crate) authority: CertificateAuthority,
    /// A client with all rights.
    pub(crate) table: CassandraClient,
    /// A client with all rights.
    pub(crate) records: KafkaClient,
    /// Name of the topic and of the keyspace.
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

impl SecuredEnv {
    pub(crate) async fn new(test: &str) -> Self {
        let name = format!("{test}_{}", &Uuid::new_v4().simple().to_string()[..8]);
        let authority = secured::authority();
        let (kafka, cassandra) =
            tokio::try_join!(secured::kafka(&authority), secured::cassandra(&authority)).unwrap();
        let folder = workspace::target_dir().unwrap().join("testkit/logs").join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let table = CassandraClient::connect(&cassandra.contact_points(), &*name)
            .await
            .unwrap();
        Self {
            table,
            records: KafkaClient::new(kafka.internal_bootstrap()).unwrap(),
            kafka,
            cassandra,
            authority,
            name,
            folder,
        }
    }

    /// The name of the dead-letter topic.
    pub(crate) fn dead_letters(&self) -> String {
        format!("{}.dead_letter", self.name)
    }

    /// The options of a service without a login. `log` names its log.
    pub(crate) fn options(&self, service: &'static str, log: &str) -> ServiceOptions {
        let options = ServiceOptions::new(service, &self.folder)
            .log_name(log)
            .set("kafka.topic", &self.name)
            .set("kafka.partitions", "1");
        if service != "streamer" {
            return options;
        }
        let (certificate, key) = self.authority.issue_once("client", &["client"]);
        options
            .set("kafka.dead_letter_topic", self.dead_letters())
            .set("kafka.session_timeout", "6s")
            .set(
                "cassandra.contact_points",
                self.cassandra.contact_points().join(","),
            )
            .set("cassandra.keyspace", &self.name)
            .set(
                "cassandra.tls.ca_path",
                self.authority.file().display().to_string(),
            )
            .set(
                "cassandra.tls.certificate_path",
                certificate.display().to_string(),
            )
            .set("cassandra.tls.key_path", key.display().to_string())
    }

    /// Creates topics, keyspace and tables, as an administrator does who gives the services no right to create.
    pub(crate) async fn create_all(&self) {
        let options = self
            .options("streamer", "administrator")
            .set("kafka.brokers", self.kafka.internal_bootstrap())
            .set("kafka.group", format!("{}-administrator", self.name))
            .set("cassandra.username", self.cassandra.superuser())
            .set("cassandra.password", self.cassandra.superuser());
        let mut streamer = Service::start(&options).unwrap();
        streamer.wait_until_ready(TIMEOUT).await.unwrap();
        assert_eq!(streamer.terminate(TIMEOUT).await.unwrap(), Some(0));
    }

    /// Writes records to the topic.
    pub(crate) async fn write(&self, records: &[ProducerRecord]) {
        self.records.write(&self.name, records).await.unwrap();
    }

    /// Waits until the group's checkpoints are the ends of the topic.
    pub(crate) async fn wait_until_caught_up(&self, group: &str) {
        let ends = self.records.end_offsets(&self.name).await.unwrap();
        eventually("the checkpoints are the end offsets", async || {
            let checkpoints = self.table.checkpoints(group, &self.name).await;
            let checkpoints = checkpoints.map_err(|error| error.to_string())?;
            let is_behind = |(partition, end): (&i32, &i64)| {
                checkpoints.get(partition).is_none_or(|it| it.next_offset < *end)
            };
            if ends.iter().any(is_behind) {
                return Err(format!("{checkpoints:?}, ends {ends:?}"));
            }
            Ok(())
        })
        .await;
    }
}

/// Fetches users through `publisher`. Returns the run's summary.
pub(crate) async fn fetch(env: &SecuredEnv, publisher: &Service, users: usize) -> Value {
    let api = RandomUserApi::start(Options::unlimited()).await.unwrap();
    let options = ServiceOptions::new("ingester", &env.folder)
        .arg("once")
        .arg("--users")
        .arg(users.to_string())
        .set("source.url", format!("{}/api/1.4/", api.url()))
        .set("publisher.url", publisher.api());
    let ingester = Service::start(&options).unwrap();
    let code = ingester.wait(TIMEOUT).await.unwrap();
    let log = ingester.last_lines(10);
    assert_eq!(code, Some(0), "{log}");
    let summary = log.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    summary.unwrap_or_else(|| panic!("{log}"))
}

/// Runs a command to its end. Returns its exit code and its output.
pub(crate) async fn run_command(options: ServiceOptions, arguments: &str) -> (Option<i32>, String) {
    let log = format!("command-{}", Uuid::new_v4().simple());
    let options = arguments
        .split_whitespace()
        .fold(options.log_name(log), ServiceOptions::arg);
    let command = Service::start(&options).unwrap();
    let code = command.wait(TIMEOUT).await.unwrap();
    (code, command.last_lines(100))
}

/// Waits until `check` succeeds. Panics with its last error at the deadline.
pub(crate) async fn eventually(what: &str, check: impl AsyncFn() -> Result<(), String>) {
    let until = Instant::now() + TIMEOUT;
    loop {
        let Err(error) = check().await else { return };
        assert!(Instant::now() < until, "timed out waiting until {what}: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A record of a run, as the publisher writes it.
pub(crate) fn record(run: Uuid, sequence: usize) -> ProducerRecord {
    let id = Uuid::new_v4();
    let value = format!(
        r#"{{"id":"{id}","first_name":"a","last_name":"b","gender":"c","address":"d","post_code":"e","email":"f@x","username":"g","dob":"1969-07-20T20:17:40.000Z","registered_date":"2010-01-01T00:00:00.001Z","phone":"h","picture":"i"}}"#
    );
    ProducerRecord {
        key: Some(id.to_string().into_bytes()),
        value: Some(value.into_bytes()),
        headers: vec![
            ("run-id".to_owned(), run.to_string().into_bytes()),
            ("run-seq".to_owned(), sequence.to_string().into_bytes()),
        ],
        ..ProducerRecord::default()
    }
}

/// A record of a run that becomes a dead letter.
pub(crate) fn garbage(run: Uuid, sequence: usize) -> ProducerRecord {
    ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..record(run, sequence)
    }
}
