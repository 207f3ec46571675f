//! The whole chain on real servers: each of its parts is taken away for a while, and it finishes by itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use testkit::cassandra_client::CassandraClient;
use testkit::comparison::{differences, expected};
use testkit::kafka_client::KafkaClient;
use testkit::randomuser::{BrokenField, Fault, Options, RandomUserApi};
use testkit::servers::{CassandraOptions, Stack, StackOptions};
use testkit::service::{Service, ServiceOptions};
use testkit::workspace;

const DEADLINE: Duration = Duration::from_secs(90);
const OUTAGE: Duration = Duration::from_secs(20);
const TOPIC: &str = "users_created";
const USERS: u64 = 12_000;

struct Chain {
    streamer: Service,
    publisher: Service,
    api: RandomUserApi,
    table: CassandraClient,
    tap: KafkaClient,
    stack: Stack,
    folder: PathBuf,
}

impl Chain {
    async fn start() -> Self {
        let folder = workspace::target_dir()
            .unwrap()
            .join("testkit")
            .join("logs")
            .join("chain");
        std::fs::create_dir_all(&folder).unwrap();
        // A stopped node forgets nothing; only a killed one could, without this.
        let cassandra = CassandraOptions::default().synced();
        let stack = Stack::start(&StackOptions {
            cassandra,
            ..StackOptions::default()
        })
        .await
        .unwrap();
        let brokers = stack.kafka.bootstrap();
        let publisher = ServiceOptions::new("publisher", &folder).set("kafka.brokers", &brokers);
        let publisher = Service::start(&publisher).unwrap();
        let streamer = ServiceOptions::new("streamer", &folder)
            .set("kafka.brokers", &brokers)
            .set(
                "cassandra.contact_points",
                stack.cassandra.contact_points().join(","),
            );
        let streamer = Service::start(&streamer).unwrap();
        publisher.ready(DEADLINE).await.unwrap();
        streamer.ready(DEADLINE).await.unwrap();
        Self {
            streamer,
            publisher,
            api: RandomUserApi::start(Options::unlimited()).await.unwrap(),
            table: CassandraClient::connect(&stack.cassandra.contact_points(), "spark_streams")
                .await
                .unwrap(),
            tap: KafkaClient::new(brokers).unwrap(),
            stack,
            folder,
        }
    }

    /// A run of its own seed, in the middle of its work.
    async fn run(&self, seed: &str) -> Service {
        let options = ServiceOptions::new("ingester", &self.folder)
            .log_name(format!("ingester-{seed}"))
            .arg("once")
            .arg("--users")
            .arg(USERS.to_string())
            .arg("--seed")
            .arg(seed)
            .set("source.url", format!("{}/api/1.4/", self.api.url()))
            .set("source.page_size", "200")
            .set("publisher.url", self.publisher.api())
            .set("publisher.batch_size", "50");
        let ingester = Service::start(&options).unwrap();
        let until = Instant::now() + DEADLINE;
        while ingester
            .metric("ingester_users_accepted_total", "")
            .await
            .ok()
            .flatten()
            .unwrap_or(0.0)
            < 500.0
        {
            assert!(
                Instant::now() < until,
                "nothing is accepted:\n{}",
                ingester.last_lines(20)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(
            ingester.child().unwrap().is_running(),
            "it was to be caught in the middle"
        );
        ingester
    }

    async fn finished(&self, ingester: &Service) {
        let (exit, summary) = ended(ingester).await;
        assert_eq!(exit, Some(0), "{}", ingester.last_lines(20));
        assert_eq!(summary["fetched"], USERS, "{summary}");
        assert_eq!(summary["accepted"], USERS, "{summary}");
    }

    /// One run of ten users under each fault; returns how many users were accepted.
    async fn every_fault_of_the_api(&self) -> u64 {
        let mut accepted = 0;
        for (fault, expected) in faults() {
            self.api.inject(fault.clone(), 1);
            let options = ServiceOptions::new("ingester", &self.folder)
                .log_name(format!("ingester-{fault}"))
                .arg("once")
                .arg("--users")
                .arg("10")
                .arg("--seed")
                .arg(fault.to_string().replace([':', '_'], "-"))
                .set("source.url", format!("{}/api/1.4/", self.api.url()))
                .set("source.page_size", "5")
                .set("source.max_in_flight", "1")
                .set("source.request_timeout", "1s")
                .set("source.backoff.initial", "10ms")
                .set("publisher.url", self.publisher.api());
            let ingester = Service::start(&options).unwrap();
            let (exit, summary) = ended(&ingester).await;
            self.api.clear_faults();
            match expected {
                Some(users) => assert_eq!(
                    (exit, &summary["accepted"]),
                    (Some(0), &users.into()),
                    "{fault}: {summary}"
                ),
                None => {
                    let reason = summary["reason"].as_str().unwrap_or_default();
                    assert!(exit == Some(1) && !reason.is_empty(), "{fault}: {summary}");
                }
            }
            accepted += summary["accepted"].as_u64().unwrap();
        }
        accepted
    }

    /// Waits until the checkpoints are the ends, then holds the table against the whole log.
    async fn settled(&self, users: u64) {
        let until = Instant::now() + DEADLINE;
        loop {
            let ends = self.tap.ends(TOPIC).await.unwrap();
            let checkpoints = self
                .table
                .checkpoints("streamer", TOPIC)
                .await
                .unwrap_or_default();
            if ends.iter().all(|(partition, end)| {
                checkpoints
                    .get(partition)
                    .is_some_and(|it| it.next_offset == *end)
            }) {
                break;
            }
            assert!(
                Instant::now() < until,
                "ends {ends:?}, checkpoints {checkpoints:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let log = self.tap.read(TOPIC).await.unwrap();
        let rows = self.table.users().await.unwrap();
        assert_eq!(rows.len() as u64, users);
        assert_eq!(differences(&expected(&log), &rows), Vec::<String>::new());
    }
}

/// The exit code, and the summary that is the last line.
async fn ended(ingester: &Service) -> (Option<i32>, serde_json::Value) {
    let exit = ingester.wait(DEADLINE).await.unwrap();
    let log = ingester.last_lines(10);
    let summary = log.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    (exit, summary.unwrap_or_else(|| panic!("{log}")))
}

/// What the API can do to the first page of a run of ten users, and how many of them are accepted; none: it fails.
fn faults() -> Vec<(Fault, Option<u64>)> {
    let passing = [
        Fault::InternalError,
        Fault::BadGateway,
        Fault::Unavailable,
        Fault::TooManyRequests(Some(1)),
        Fault::ErrorBody,
        Fault::NoResults,
        Fault::FewerResults,
        Fault::WrongContentType,
        Fault::TruncatedJson,
        Fault::OversizedBody(2 << 20),
        Fault::ResetMidBody,
        Fault::StallMidBody,
        Fault::Hang(None),
        Fault::SlowBytes(Duration::from_millis(50)),
    ];
    let costs_itself = BrokenField::all()
        .map(Fault::BrokenRecord)
        .chain([Fault::DuplicateUuids]);
    let ends_the_run = [Fault::ForbiddenPage, Fault::WrongVersion];
    let passing = passing.map(|fault| (fault, Some(10)));
    let costs_itself = costs_itself.map(|fault| (fault, Some(9)));
    let ends_the_run = ends_the_run.map(|fault| (fault, None));
    passing
        .into_iter()
        .chain(costs_itself)
        .chain(ends_the_run)
        .collect()
}

fn names(readiness: &serde_json::Value) -> Vec<&str> {
    let dependencies = readiness["dependencies"].as_array().unwrap();
    let missing = dependencies
        .iter()
        .filter(|dependency| dependency["ready"] == false);
    missing
        .map(|dependency| dependency["name"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_outlives_its_publisher_its_kafka_and_its_cassandra() {
    let mut chain = Chain::start().await;

    let run = chain.run("publisher-killed").await;
    chain.publisher.kill().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    chain.publisher.spawn().unwrap();
    chain.finished(&run).await;

    let run = chain.run("kafka-stopped").await;
    chain.stack.kafka.node(0).unwrap().stop().await.unwrap();
    let up_again = tokio::time::sleep(OUTAGE);
    for service in [&chain.publisher, &chain.streamer] {
        let readiness = service
            .readiness(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!(names(&readiness), ["kafka"]);
        assert_eq!(
            service.ask("/healthz").await.unwrap().0,
            200,
            "a dependency's outage is no reason to restart"
        );
    }
    up_again.await;
    chain.stack.kafka.node(0).unwrap().start().await.unwrap();
    chain.publisher.ready(Duration::from_secs(10)).await.unwrap();
    chain.streamer.ready(Duration::from_secs(10)).await.unwrap();
    chain.finished(&run).await;

    let run = chain.run("cassandra-stopped").await;
    chain.stack.cassandra.node(0).unwrap().stop().await.unwrap();
    let up_again = tokio::time::sleep(OUTAGE);
    let readiness = chain
        .streamer
        .readiness(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(names(&readiness), ["cassandra"]);
    assert_eq!(chain.streamer.ask("/healthz").await.unwrap().0, 200);
    chain.publisher.ready(Duration::from_secs(1)).await.unwrap();
    up_again.await;
    chain.stack.cassandra.node(0).unwrap().start().await.unwrap();
    chain.streamer.ready(Duration::from_secs(10)).await.unwrap();
    chain.finished(&run).await;

    let after_faults = chain.every_fault_of_the_api().await;
    chain.settled(3 * USERS + after_faults).await;
    curl_answers(&chain).await;
}

/// The checks that the README shows, by the program that it shows them with: what it prints is what comes.
async fn curl_answers(chain: &Chain) {
    let ingester = ServiceOptions::new("ingester", &chain.folder)
        .log_name("ingester-standing")
        .arg("run")
        .set("schedule.interval", "1h")
        .set("source.url", format!("{}/api/1.4/", chain.api.url()))
        .set("publisher.url", chain.publisher.api());
    let ingester = Service::start(&ingester).unwrap();
    ingester.ready(DEADLINE).await.unwrap();
    let services = [('1', &ingester), ('2', &chain.publisher), ('3', &chain.streamer)];
    let readme = std::fs::read_to_string(workspace::root().unwrap().join("README.md")).unwrap();
    let mut lines = readme.lines();
    let mut shown = 0;
    while let Some(line) = lines.next() {
        let Some(asked) = line.strip_prefix("$ curl http://127.0.0.1:908") else {
            continue;
        };
        let (_, service) = services
            .iter()
            .find(|(port, _)| asked.starts_with(*port))
            .unwrap();
        let body = curl(&format!("{}{}", service.admin(), &asked[1..]));
        let expected = lines.next().unwrap();
        assert!(body.lines().any(|line| line == expected), "{line}: {body}");
        shown += 1;
    }
    assert_eq!(shown, 9, "three checks of each service");
}

fn curl(url: &str) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", url])
        .output()
        .unwrap();
    assert!(output.status.success(), "{url}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
