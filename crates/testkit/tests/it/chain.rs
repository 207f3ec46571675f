//! The whole pipeline on real servers: each part fails for a while, and the pipeline recovers by itself.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use model::Contract;
use reqwest::StatusCode;
use testkit::cassandra_client::CassandraClient;
use testkit::comparison::{differences, expected};
use testkit::kafka_client::KafkaClient;
use testkit::randomuser::{BrokenField, Fault, Options, RandomUserApi};
use testkit::servers::pool::Access;
use testkit::servers::{CassandraCluster, CassandraOptions, KafkaCluster, KafkaOptions, Stack};
use testkit::service::{Service, ServiceOptions};
use testkit::workspace;

const TIMEOUT: Duration = Duration::from_secs(90);
/// Length of a server's outage: longer than the services' probes need to see it.
fn outage() -> Duration {
    Duration::from_secs(if workspace::is_full_test_run() { 20 } else { 5 })
}

const TOPIC: &str = "users_created";
const USERS: u64 = 4_000;

struct TestEnv {
    streamer: Service,
    publisher: Service,
    api: RandomUserApi,
    table: CassandraClient,
    kafka: KafkaClient,
    stack: Stack,
    folder: PathBuf,
}

impl TestEnv {
    async fn start() -> Self {
        let folder = workspace::target_dir()
            .unwrap()
            .join("testkit")
            .join("logs")
            .join("chain");
        std::fs::create_dir_all(&folder).unwrap();
        let (kafka, cassandra) = (KafkaOptions::default(), CassandraOptions::with_login());
        let kafka = KafkaCluster::lease(&kafka, Access::Exclusive);
        let cassandra = CassandraCluster::lease(&cassandra, Access::Exclusive);
        let (kafka, cassandra) = tokio::try_join!(kafka, cassandra).unwrap();
        let stack = Stack { kafka, cassandra };
        let brokers = stack.kafka.bootstrap();
        let publisher = ServiceOptions::new("publisher", &folder).set("kafka.brokers", &brokers);
        let publisher = Service::start(&publisher).unwrap();
        let streamer = ServiceOptions::new("streamer", &folder)
            .set("kafka.brokers", &brokers)
            .set(
                "cassandra.contact_points",
                stack.cassandra.contact_points().join(","),
            )
            .set("cassandra.username", stack.cassandra.superuser())
            .set("cassandra.password", stack.cassandra.superuser());
        let streamer = Service::start(&streamer).unwrap();
        publisher.wait_until_ready(TIMEOUT).await.unwrap();
        streamer.wait_until_ready(TIMEOUT).await.unwrap();
        Self {
            streamer,
            publisher,
            api: RandomUserApi::start(Options::unlimited()).await.unwrap(),
            table: CassandraClient::connect(&stack.cassandra.contact_points(), "spark_streams")
                .await
                .unwrap(),
            kafka: KafkaClient::new(brokers).unwrap(),
            stack,
            folder,
        }
    }

    /// Starts a run and returns in the middle of it.
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
            // Two seconds for the rest of a run, so that an outage begins in the middle of it.
            .set("source.rate_limit.users", "400")
            .set("source.rate_limit.window", "200ms")
            .set("publisher.url", self.publisher.api())
            .set("publisher.batch_size", "50");
        let ingester = Service::start(&options).unwrap();
        let until = Instant::now() + TIMEOUT;
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
                "no record is accepted:\n{}",
                ingester.last_lines(20)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(ingester.child().unwrap().is_running(), "the run ended too early");
        ingester
    }

    async fn assert_complete(&self, ingester: &Service) {
        let (exit, summary) = wait_for_summary(ingester).await;
        assert_eq!(exit, Some(0), "{}", ingester.last_lines(20));
        assert_eq!(summary["fetched"], USERS, "{summary}");
        assert_eq!(summary["accepted"], USERS, "{summary}");
    }

    /// Runs ten users with each fault, four runs at a time, and returns the number of accepted users.
    async fn run_with_every_fault(&self) -> u64 {
        let runs = faults().into_iter().map(async |(fault, expected)| {
            let api = RandomUserApi::start(Options::unlimited()).await.unwrap();
            api.inject(fault.clone(), 1);
            let options = ServiceOptions::new("ingester", &self.folder)
                .log_name(format!("ingester-{fault}"))
                .arg("once")
                .arg("--users")
                .arg("10")
                .arg("--seed")
                .arg(fault.to_string().replace([':', '_'], "-"))
                .set("source.url", format!("{}/api/1.4/", api.url()))
                .set("source.page_size", "5")
                .set("source.max_in_flight", "1")
                .set("source.request_timeout", "1s")
                .set("source.backoff.initial", "10ms")
                .set("publisher.url", self.publisher.api());
            let ingester = Service::start(&options).unwrap();
            let (exit, summary) = wait_for_summary(&ingester).await;
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
            summary["accepted"].as_u64().unwrap()
        });
        let accepted: Vec<u64> = stream::iter(runs).buffer_unordered(4).collect().await;
        accepted.iter().sum()
    }

    /// Waits until the checkpoints are the end offsets, then compares the table with the topic.
    async fn assert_table_matches_topic(&self, users: u64) {
        let until = Instant::now() + TIMEOUT;
        loop {
            let ends = self.kafka.end_offsets(TOPIC).await.unwrap();
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
        let log = self.kafka.read(TOPIC).await.unwrap();
        let rows = self.table.rows().await.unwrap();
        assert_eq!(rows.len() as u64, users);
        let expected = expected(&Contract::user(), &log);
        assert_eq!(differences(&expected, &rows), Vec::<String>::new());
    }
}

/// Returns the exit code and the summary, which is the last line.
async fn wait_for_summary(ingester: &Service) -> (Option<i32>, serde_json::Value) {
    let exit = ingester.wait(TIMEOUT).await.unwrap();
    let log = ingester.last_lines(10);
    let summary = log.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    (exit, summary.unwrap_or_else(|| panic!("{log}")))
}

/// Every fault with the number of accepted users of a run of ten; `None`: the run fails.
fn faults() -> Vec<(Fault, Option<u64>)> {
    let recover = [
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
    let lose_one = BrokenField::all()
        .map(Fault::BrokenRecord)
        .chain([Fault::DuplicateUuids]);
    let fail = [Fault::ForbiddenPage, Fault::WrongVersion];
    let recover = recover.map(|fault| (fault, Some(10)));
    let lose_one = lose_one.map(|fault| (fault, Some(9)));
    let fail = fail.map(|fault| (fault, None));
    recover.into_iter().chain(lose_one).chain(fail).collect()
}

fn unready_dependencies(readiness: &serde_json::Value) -> Vec<&str> {
    let dependencies = readiness["dependencies"].as_array().unwrap();
    let missing = dependencies
        .iter()
        .filter(|dependency| dependency["ready"] == false);
    missing
        .map(|dependency| dependency["name"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pipeline_recovers_from_outages_of_each_part() {
    let mut env = TestEnv::start().await;

    let run = env.run("publisher-killed").await;
    env.publisher.kill().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    env.publisher.spawn().unwrap();
    env.assert_complete(&run).await;

    let run = env.run("kafka-stopped").await;
    env.stack.kafka.node(0).unwrap().stop().await.unwrap();
    let up_again = tokio::time::sleep(outage());
    for service in [&env.publisher, &env.streamer] {
        let readiness = service
            .wait_for_readiness(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!(unready_dependencies(&readiness), ["kafka"]);
        assert_eq!(
            service.get("/healthz").await.unwrap().0,
            200,
            "an outage of a dependency requires no restart"
        );
    }
    up_again.await;
    env.stack.kafka.node(0).unwrap().start().await.unwrap();
    env.publisher
        .wait_until_ready(Duration::from_secs(10))
        .await
        .unwrap();
    env.streamer
        .wait_until_ready(Duration::from_secs(10))
        .await
        .unwrap();
    env.assert_complete(&run).await;

    let run = env.run("cassandra-stopped").await;
    env.stack.cassandra.node(0).unwrap().stop().await.unwrap();
    let up_again = tokio::time::sleep(outage());
    let readiness = env
        .streamer
        .wait_for_readiness(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(unready_dependencies(&readiness), ["cassandra"]);
    assert_eq!(env.streamer.get("/healthz").await.unwrap().0, 200);
    env.publisher
        .wait_until_ready(Duration::from_secs(1))
        .await
        .unwrap();
    up_again.await;
    env.stack.cassandra.node(0).unwrap().start().await.unwrap();
    env.streamer
        .wait_until_ready(Duration::from_secs(10))
        .await
        .unwrap();
    env.assert_complete(&run).await;

    let after_faults = env.run_with_every_fault().await;
    env.assert_table_matches_topic(3 * USERS + after_faults).await;
    assert_readme_curl_examples(&env).await;
}

/// Checks that the README's `curl` examples print what the README shows.
async fn assert_readme_curl_examples(env: &TestEnv) {
    let ingester = ServiceOptions::new("ingester", &env.folder)
        .log_name("ingester-scheduled")
        .arg("run")
        .set("schedule.interval", "1h")
        .set("source.url", format!("{}/api/1.4/", env.api.url()))
        .set("publisher.url", env.publisher.api());
    let ingester = Service::start(&ingester).unwrap();
    ingester.wait_until_ready(TIMEOUT).await.unwrap();
    let services = [('1', &ingester), ('2', &env.publisher), ('3', &env.streamer)];
    let readme = std::fs::read_to_string(workspace::root().unwrap().join("README.md")).unwrap();
    let mut lines = readme.lines();
    let mut shown = 0;
    while let Some(line) = lines.next() {
        let Some(target) = line.strip_prefix("$ curl http://127.0.0.1:908") else {
            continue;
        };
        let (_, service) = services
            .iter()
            .find(|(port, _)| target.starts_with(*port))
            .unwrap();
        let body = curl(&format!("{}{}", service.admin(), &target[1..]));
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
