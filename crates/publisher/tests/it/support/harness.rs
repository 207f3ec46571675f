//! A publisher process: configured, started, called over HTTP and stopped.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use model::Contract;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use testkit::process::Child;
use testkit::service::{Service, ServiceOptions};
use tokio::time::{Instant, sleep};

use super::openapi;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A publisher process. It is killed when this is dropped.
pub(crate) struct Publisher {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) admin: String,
    /// The resource of its contract.
    pub(crate) resource: String,
    pub(crate) client: Client,
    _folder: TempDir,
}

/// The configuration of a publisher process.
pub(crate) struct Setup {
    options: ServiceOptions,
    resource: String,
    log: PathBuf,
    folder: TempDir,
}

/// Configures a publisher of `topic` on the Kafka at `brokers`, with free ports and short timeouts.
pub(crate) fn setup(brokers: &str, topic: &str) -> Setup {
    setup_without_topic(brokers).with("KAFKA__TOPIC", topic)
}

/// Configures a publisher with `soft` as its soft limit of open files.
pub(crate) fn setup_with_nofile(soft: u32, brokers: &str, topic: &str) -> Setup {
    let limit = format!("--nofile={soft}:4096");
    let mut setup = setup(brokers, topic);
    setup.options = setup.options.wrapped_by(["prlimit", &limit]);
    setup
}

/// Configures a publisher of the contract's topic on the Kafka at `brokers`.
pub(crate) fn setup_without_topic(brokers: &str) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("publisher.log");
    let options = ServiceOptions::new("publisher", folder.path()).binary(env!("CARGO_BIN_EXE_publisher"));
    let setup = Setup {
        options,
        resource: "users".to_owned(),
        log,
        folder,
    };
    setup
        .with("KAFKA__BROKERS", brokers)
        .with("KAFKA__MESSAGE_TIMEOUT", "3s")
        .with("HTTP__LISTEN", "127.0.0.1:0")
        .with("HTTP__BODY_TIMEOUT", "2s")
        .with("HTTP__HEADER_TIMEOUT", "2s")
        .with("HTTP__REQUEST_TIMEOUT", "8s")
        .with("PROCESS__ADMIN_LISTEN", "127.0.0.1:0")
        .with("PROCESS__LOG_FORMAT", "json")
}

/// Starts a publisher of a new topic on the shared Kafka and waits until it is ready.
pub(crate) async fn ready() -> (Publisher, super::topic::Topic) {
    ready_with(|setup| setup).await
}

/// Starts a publisher of a new topic with further settings and waits until it is ready.
pub(crate) async fn ready_with(settings: impl FnOnce(Setup) -> Setup) -> (Publisher, super::topic::Topic) {
    let topic = super::topic::Topic::new(&super::broker::shared().await);
    let publisher = settings(setup(&topic.brokers, &topic.name)).start().await;
    publisher.wait_until_ready().await;
    (publisher, topic)
}

impl Setup {
    /// Sets a configuration key.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        let key = key.to_lowercase().replace("__", ".");
        self.options = self.options.set(&key, value);
        self
    }

    /// Writes `proto` to a file in the publisher's folder and serves its contract.
    pub(crate) fn record(self, proto: &str) -> Self {
        let path = self.folder.path().join("record.proto");
        fs::write(&path, proto).unwrap();
        let contract = Contract::from_source(proto);
        Self {
            // A test may write a contract that is refused.
            resource: contract.map_or(self.resource, |contract| contract.resource().to_owned()),
            ..self
        }
        .with("RECORD__PROTO", path.to_str().unwrap())
    }

    /// Sets the command-line arguments.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().copied();
        self.options = arguments.fold(self.options, ServiceOptions::arg);
        self
    }

    /// Starts the process without waiting.
    pub(crate) fn spawn(&self) -> Child {
        Service::start(&self.options).unwrap().take_child().unwrap()
    }

    /// Starts the process and waits until it listens.
    pub(crate) async fn start(self) -> Publisher {
        let child = self.spawn();
        let address = |message, key| logged_address(&self.log, message, key);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let (Some(admin), Some(api)) = (address("started", "admin"), address("listening", "address")) {
                return Publisher {
                    child,
                    url: format!("http://{api}"),
                    admin: format!("http://{admin}"),
                    resource: self.resource,
                    client: client(),
                    _folder: self.folder,
                };
            }
            assert!(
                child.is_running() && Instant::now() < deadline,
                "{}",
                child.last_lines(20)
            );
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A client that gives up an idle connection before the publisher closes it after its `http.header_timeout`. A request that
/// is sent at that moment would fail.
fn client() -> Client {
    let client = Client::builder().pool_idle_timeout(Duration::from_secs(1));
    client.build().unwrap()
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
    /// `POST /v1/{resource}`
    pub(crate) fn post(&self, content_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client
            .post(format!("{}/v1/{}", self.url, self.resource))
            .header("content-type", content_type)
            .body(body)
    }

    /// Posts the records as a JSON array and returns status and body.
    pub(crate) async fn send(&self, records: &[Value]) -> (u16, Value) {
        let body = serde_json::to_vec(records).unwrap();
        status_and_body(self.post("application/json", body)).await
    }

    pub(crate) async fn readiness(&self) -> (u16, Value) {
        status_and_body(self.client.get(format!("{}/readyz", self.admin))).await
    }

    pub(crate) async fn wait_until_ready(&self) {
        self.wait_until("ready", async || self.readiness().await.0 == 200)
            .await;
    }

    /// Polls until `condition` holds.
    pub(crate) async fn wait_until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !condition().await {
            assert!(
                Instant::now() < deadline,
                "not {what} within the timeout: {}",
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

    /// Waits until no request, record or byte is in flight.
    pub(crate) async fn wait_until_idle(&self) {
        self.wait_until("idle", async || {
            self.metric("requests_in_flight").await == 0.0
                && self.metric("records_in_flight").await == 0.0
                && self.metric("bytes_in_flight").await == 0.0
        })
        .await;
    }
}

/// Sends a request and returns status and body of its response.
pub(crate) async fn status_and_body(request: RequestBuilder) -> (u16, Value) {
    read_response(request.send().await.unwrap()).await
}

/// Sends `DELETE /v1/{resource}/{key}`; the key is escaped already.
pub(crate) async fn erase(publisher: &Publisher, key: &str) -> (u16, Value) {
    let url = format!("{}/v1/{}/{key}", publisher.url, publisher.resource);
    status_and_body(publisher.client.delete(url)).await
}

/// Reads status and body of a response, and checks both against the OpenAPI document.
pub(crate) async fn read_response(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let described = openapi::describe(&response);
    let text = response.text().await.unwrap();
    described.assert_matches(&text);
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}
