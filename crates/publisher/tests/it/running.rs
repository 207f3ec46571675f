//! A running publisher: started with a configuration, spoken to over HTTP, ended by a signal.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use testkit::process::{Child, Program};
use tokio::time::{Instant, sleep};

use crate::contract;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A publisher process. It is killed when this is dropped.
pub(crate) struct Publisher {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) client: Client,
    _folder: TempDir,
}

/// How to start one.
pub(crate) struct Setup {
    program: Program,
    log: PathBuf,
    folder: TempDir,
}

/// A publisher of `topic` on the Kafka at `brokers`, on free ports and with short deadlines.
pub(crate) fn setup(brokers: &str, topic: &str) -> Setup {
    started_by(Program::new(env!("CARGO_BIN_EXE_publisher")), brokers, topic)
}

/// The same, with no more than `soft` open files until it raises that limit itself.
pub(crate) fn setup_with_few_files(soft: u32, brokers: &str, topic: &str) -> Setup {
    let program =
        Program::new("prlimit").args([&format!("--nofile={soft}:4096"), env!("CARGO_BIN_EXE_publisher")]);
    started_by(program, brokers, topic)
}

fn started_by(program: Program, brokers: &str, topic: &str) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let program = program.log_to(&log);
    Setup { program, log, folder }
        .with("KAFKA__BROKERS", brokers)
        .with("KAFKA__TOPIC", topic)
        .with("KAFKA__MESSAGE_TIMEOUT", "3s")
        .with("HTTP__LISTEN", "127.0.0.1:0")
        .with("HTTP__BODY_TIMEOUT", "2s")
        .with("HTTP__HEADER_TIMEOUT", "2s")
        .with("HTTP__REQUEST_TIMEOUT", "8s")
        .with("PROCESS__ADMIN_LISTEN", "127.0.0.1:0")
        .with("PROCESS__LOG_FORMAT", "json")
}

/// A ready publisher of a fresh topic on the shared Kafka, and the topic.
pub(crate) async fn ready() -> (Publisher, super::topic::Topic) {
    let topic = super::topic::Topic::fresh(&super::broker::shared().await);
    let publisher = setup(&topic.brokers, &topic.name).start().await;
    publisher.wait_until_ready().await;
    (publisher, topic)
}

impl Setup {
    /// Sets a key of the configuration.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.program = self.program.env(format!("PUBLISHER__{key}"), value);
        self
    }

    /// With these arguments on its command line.
    pub(crate) fn command(mut self, arguments: &[&str]) -> Self {
        self.program = self.program.args(arguments);
        self
    }

    /// Starts it without waiting for anything.
    pub(crate) fn spawn(&self) -> Child {
        self.program.spawn().unwrap()
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(self) -> Publisher {
        let child = self.spawn();
        let address = |message, key| logged_address(&self.log, message, key);
        let until = Instant::now() + DEADLINE;
        loop {
            if let (Some(admin), Some(api)) = (address("started", "admin"), address("listening", "address")) {
                return Publisher {
                    child,
                    url: format!("http://{api}"),
                    admin: format!("http://{admin}"),
                    client: Client::new(),
                    _folder: self.folder,
                };
            }
            assert!(
                child.is_running() && Instant::now() < until,
                "{}",
                child.last_lines(20)
            );
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn logged_address(log: &PathBuf, message: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.into_iter().find(|line| line["message"] == message)?;
    Some(line[key].as_str().unwrap().to_owned())
}

impl Publisher {
    /// `POST /v1/users`
    pub(crate) fn post(&self, content_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client
            .post(format!("{}/v1/users", self.url))
            .header("content-type", content_type)
            .body(body)
    }

    /// The status and the document of an answer to these records as an array.
    pub(crate) async fn send(&self, records: &[Value]) -> (u16, Value) {
        let body = serde_json::to_vec(records).unwrap();
        answer(self.post("application/json", body)).await
    }

    pub(crate) async fn readiness(&self) -> (u16, Value) {
        answer(self.client.get(format!("{}/readyz", self.admin))).await
    }

    pub(crate) async fn wait_until_ready(&self) {
        self.wait_until("ready", async || self.readiness().await.0 == 200)
            .await;
    }

    /// Polls until `condition` holds.
    pub(crate) async fn wait_until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let until = Instant::now() + DEADLINE;
        while !condition().await {
            assert!(
                Instant::now() < until,
                "not {what} in time: {}",
                self.child.last_lines(20)
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The value of a metric with its labels, such as `records_total{outcome="accepted"}`.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let response = self.client.get(format!("{}/metrics", self.admin)).send().await;
        let text = response.unwrap().text().await.unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("publisher_{name} ")));
        value
            .unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .unwrap()
    }

    /// Nothing of any request is held any more.
    pub(crate) async fn wait_until_idle(&self) {
        self.wait_until("idle", async || {
            self.metric("requests_in_flight").await == 0.0
                && self.metric("records_in_flight").await == 0.0
                && self.metric("bytes_in_flight").await == 0.0
        })
        .await;
    }
}

/// The status and the document of the answer.
pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    document(request.send().await.unwrap()).await
}

/// What `DELETE /v1/users/{id}` is answered with.
pub(crate) async fn erase(publisher: &Publisher, id: &str) -> (u16, Value) {
    answer(
        publisher
            .client
            .delete(format!("{}/v1/users/{id}", publisher.url)),
    )
    .await
}

/// The same of an answer that is here. What the API describes it to be, it must be.
pub(crate) async fn document(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let described = contract::of(&response);
    let text = response.text().await.unwrap();
    described.assert_is(&text);
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}
