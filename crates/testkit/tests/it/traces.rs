//! One trace from page to row over the real services: also after the ingester and the streamer were killed.
//!
//! With `AFFLUENT_OTEL_COLLECTOR`, the path of the OpenTelemetry Collector, the spans go through it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use testkit::cassandra_client::CassandraClient;
use testkit::kafka_client::{KafkaClient, TopicRecord};
use testkit::randomuser::{Options, RandomUserApi};
use testkit::servers::Stack;
use testkit::service::{Service, ServiceOptions};
use testkit::traces::{Collector, ReceivedSpan, TraceReceiver};
use testkit::workspace;
use tokio::time::sleep;
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(90);
const USERS: usize = 1_000;
const PAGE: usize = 100;
const BATCH: usize = 50;

struct TestEnv {
    name: String,
    folder: PathBuf,
    stack: Stack,
    receiver: TraceReceiver,
    collector: Option<Collector>,
}

impl TestEnv {
    async fn start() -> Self {
        let name = format!("traces_{}", Uuid::new_v4().simple());
        let folder = workspace::target_dir().unwrap().join("testkit/logs").join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let receiver = TraceReceiver::start().await.unwrap();
        let collector = match std::env::var_os("AFFLUENT_OTEL_COLLECTOR") {
            Some(binary) => {
                let started = Collector::start(binary.as_ref(), &receiver, &folder, TIMEOUT);
                Some(started.await.unwrap())
            }
            None => None,
        };
        Self {
            name,
            folder,
            stack: Stack::shared().await.unwrap(),
            receiver,
            collector,
        }
    }

    fn service(&self, name: &'static str) -> ServiceOptions {
        let endpoint = self.collector.as_ref().map(Collector::endpoint);
        let endpoint = endpoint.unwrap_or_else(|| self.receiver.endpoint().to_owned());
        ServiceOptions::new(name, &self.folder).set("telemetry.otlp_endpoint", endpoint)
    }

    async fn publisher(&self) -> Service {
        let options = self
            .service("publisher")
            .set("kafka.brokers", self.stack.kafka.bootstrap())
            .set("kafka.topic", &self.name);
        let publisher = Service::start(&options).unwrap();
        publisher.wait_until_ready(TIMEOUT).await.unwrap();
        publisher
    }

    /// Starts a streamer that stores no checkpoint while the test runs, so that a restart reads every record again.
    async fn streamer(&self) -> Service {
        let options = self
            .service("streamer")
            .set("kafka.brokers", self.stack.kafka.bootstrap())
            .set("kafka.topic", &self.name)
            .set("kafka.group", &self.name)
            // The restarted member takes over at once, and a member that is slow keeps its partitions.
            .set("kafka.instance_id", &self.name)
            .set("kafka.session_timeout", "60s")
            .set("cassandra.keyspace", &self.name)
            .set(
                "cassandra.contact_points",
                self.stack.cassandra.contact_points().join(","),
            )
            .set("checkpoint.interval", "1h")
            .set("checkpoint.stall_timeout", "2h");
        let streamer = Service::start(&options).unwrap();
        streamer.wait_until_ready(TIMEOUT).await.unwrap();
        streamer
    }

    /// Executes a run, whose process is killed in the middle, and returns its id.
    async fn run_with_a_kill(&self, publisher: &Service) -> String {
        let api = RandomUserApi::start(Options::unlimited()).await.unwrap();
        let options = self
            .service("ingester")
            .arg("once")
            .set("run.users", USERS.to_string())
            .set("source.url", format!("{}/api/1.4/", api.url()))
            .set("source.page_size", PAGE.to_string())
            // Twelve seconds for the run, so that the kill comes in the middle on a busy machine, too.
            .set("source.rate_limit.users", "200")
            .set("source.rate_limit.window", "3s")
            .set("publisher.batch_size", BATCH.to_string())
            .set("publisher.url", publisher.api())
            .set("state.path", self.folder.join("state").display().to_string());
        let mut ingester = Service::start(&options).unwrap();
        let accepted = async || {
            let accepted = ingester.metric("ingester_users_accepted_total", "").await;
            accepted.ok().flatten().unwrap_or(0.0)
        };
        wait_until("records are accepted", async || accepted().await >= 200.0).await;
        ingester.kill().await.unwrap();
        ingester.spawn().unwrap();
        let exit = ingester.wait(TIMEOUT).await.unwrap();
        let log = ingester.last_lines(10);
        assert_eq!(exit, Some(0), "{log}");
        let summary = log.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        let summary: serde_json::Value = summary.unwrap_or_else(|| panic!("{log}"));
        assert_eq!(summary["accepted"], USERS, "{summary}");
        summary["run"].as_str().unwrap().to_owned()
    }

    /// For each span that produced records, how many micro-batches have linked to it.
    fn links(&self) -> BTreeMap<(String, String), usize> {
        let mut links = BTreeMap::new();
        for span in self.named("micro-batch") {
            for link in span.links {
                *links.entry(link).or_default() += 1;
            }
        }
        links
    }

    /// The number of records in the micro-batches whose two spans have arrived.
    fn written(&self) -> usize {
        let (batches, writes) = (self.named("micro-batch"), self.named("write"));
        let complete = batches
            .iter()
            .filter(|batch| writes.iter().any(|write| write.parent == batch.id));
        let records =
            complete.map(|batch| batch.attributes["messaging.batch.message_count"].parse::<usize>());
        records.map(Result::unwrap).sum()
    }

    fn named(&self, name: &str) -> Vec<ReceivedSpan> {
        let spans = self.receiver.spans().into_iter();
        spans.filter(|span| span.name == name).collect()
    }
}

async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + TIMEOUT;
    while !condition().await {
        assert!(
            Instant::now() < until,
            "{what}: not within {} s",
            TIMEOUT.as_secs()
        );
        sleep(Duration::from_millis(50)).await;
    }
}

fn ids(spans: &[ReceivedSpan]) -> BTreeSet<&str> {
    spans.iter().map(|span| &*span.id).collect()
}

fn parents(spans: &[ReceivedSpan]) -> BTreeSet<&str> {
    spans.iter().map(|span| &*span.parent).collect()
}

/// Trace and span of the header of each record.
fn producers(records: &[TopicRecord]) -> BTreeSet<(String, String)> {
    let producer = |record: &TopicRecord| {
        let traceparent = record
            .header("traceparent")
            .expect("every record of a sampled run has one");
        let parts: Vec<_> = traceparent.split('-').collect();
        (parts[1].to_owned(), parts[2].to_owned())
    };
    records.iter().map(producer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn run_is_one_trace_from_page_to_row() {
    let env = TestEnv::start().await;
    let publisher = env.publisher().await;
    let mut streamer = env.streamer().await;
    let run = env.run_with_a_kill(&publisher).await;
    let trace = run.replace('-', "");

    let kafka = KafkaClient::new(env.stack.kafka.bootstrap()).unwrap();
    let records = kafka.read(&env.name).await.unwrap();
    let producers = producers(&records);
    assert!(producers.iter().all(|(of, _)| *of == trace), "{producers:?}");

    let contact_points = env.stack.cassandra.contact_points();
    let table = CassandraClient::connect(&contact_points, &env.name)
        .await
        .unwrap();
    let every_row = async || table.count().await.ok() == Some(USERS.try_into().unwrap());
    wait_until("every record is a row", every_row).await;
    wait_until("the records are in micro-batches", async || {
        env.written() >= records.len()
    })
    .await;
    let before = env.links();
    assert!(before.keys().eq(&producers), "{before:?}");

    assert_exemplars(&publisher, "publisher_delivery_duration_seconds", &trace).await;
    assert_exemplars(&streamer, "streamer_end_to_end_seconds", &trace).await;

    streamer.kill().await.unwrap();
    streamer.spawn().unwrap();
    let again = async || env.written() >= 2 * records.len() && !env.named("run").is_empty();
    wait_until("the records are in micro-batches again", again).await;
    let after = env.links();
    assert!(after.keys().eq(&producers), "{after:?}");
    assert!(
        after.iter().all(|(producer, links)| *links > before[producer]),
        "{before:?} {after:?}"
    );
    assert_tree(&env, &trace, &producers);
    assert_nothing_personal(&env.receiver.spans(), &records);
}

/// Checks that a bucket of the histogram names the trace.
async fn assert_exemplars(service: &Service, histogram: &str, trace: &str) {
    let request = reqwest::Client::new().get(format!("{}/metrics", service.admin()));
    let request = request.header(
        "accept",
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    );
    let text = request.send().await.unwrap().text().await.unwrap();
    let bucket = format!("{histogram}_bucket{{");
    let exemplar = format!(" # {{trace_id=\"{trace}\"}} ");
    let found = text
        .lines()
        .any(|line| line.starts_with(&bucket) && line.contains(&exemplar));
    assert!(found, "{text}");
}

/// Checks the spans from the run down to the writes.
fn assert_tree(env: &TestEnv, trace: &str, producers: &BTreeSet<(String, String)>) {
    let spans = env.receiver.spans();
    let other = spans.iter().find(|span| span.trace != trace);
    assert_eq!(other, None, "every span is in the trace of the run");
    let [runs, pages, sends, requests, produced, batches, writes] = [
        "run",
        "page",
        "send",
        "request",
        "produce",
        "micro-batch",
        "write",
    ]
    .map(|name| env.named(name));
    // The resumed process exports the span of the whole run.
    let [root] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!((root.service.as_str(), root.parent.as_str()), ("ingester", ""));
    assert_eq!(root.attributes["affluent.run.outcome"], "complete");
    // The killed process took its last spans with it.
    assert!(!pages.is_empty() && !sends.is_empty());
    for span in pages.iter().chain(&sends) {
        assert_eq!((span.service.as_str(), &span.parent), ("ingester", &root.id));
    }
    // A batch that was sent again has the same parent.
    assert_eq!(parents(&requests).len(), USERS / BATCH);
    assert!(ids(&sends).is_subset(&parents(&requests)));
    assert!(parents(&produced).is_subset(&ids(&requests)));
    let produced_ids: BTreeSet<_> = producers.iter().map(|(_, span)| &**span).collect();
    assert!(produced_ids.is_subset(&ids(&produced)));
    assert!(parents(&batches).is_subset(&produced_ids));
    assert_eq!(parents(&writes), ids(&batches));
    let of_publisher = [&requests, &produced].map(|spans| (spans, "publisher"));
    let of_streamer = [&batches, &writes].map(|spans| (spans, "streamer"));
    for (spans, service) in of_publisher.into_iter().chain(of_streamer) {
        // A request whose caller was killed has no status.
        let is_cut = |span: &ReceivedSpan| {
            span.name == "request" && !span.attributes.contains_key("http.response.status_code")
        };
        let wrong = spans
            .iter()
            .find(|span| span.service != service || span.is_error != is_cut(span));
        assert_eq!(wrong, None, "each span is of the {service}, without an error");
    }
}

fn assert_nothing_personal(spans: &[ReceivedSpan], records: &[TopicRecord]) {
    let key = |record: &TopicRecord| String::from_utf8(record.key.clone().unwrap()).unwrap();
    let keys: BTreeSet<_> = records.iter().map(key).collect();
    assert_eq!(keys.len(), USERS);
    for value in spans.iter().flat_map(|span| span.attributes.values()) {
        assert!(!value.contains('@') && !keys.contains(value), "{value}");
    }
}
