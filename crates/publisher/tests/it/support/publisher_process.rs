//! A publisher process: configured, started and called over HTTP.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use model::Contract;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use testkit::process::Child;
use testkit::service::{Service, ServiceOptions};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::openapi;
use super::topic::Topic;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// For a process that should end by itself.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A publisher, with a client of its API. It is killed when this is dropped.
pub(crate) struct Publisher {
    pub(crate) service: Service,
    pub(crate) url: String,
    pub(crate) admin: String,
    /// The resource of its contract.
    pub(crate) resource: String,
    pub(crate) client: Client,
}

/// Configures a publisher of `topic` on the Kafka at `brokers`, with short timeouts.
pub(crate) fn setup(brokers: &str, topic: &str) -> ServiceOptions {
    setup_without_topic(brokers).set("kafka.topic", topic)
}

/// Configures a publisher of the contract's topic on the Kafka at `brokers`. It has a folder of its own.
pub(crate) fn setup_without_topic(brokers: &str) -> ServiceOptions {
    ServiceOptions::new("publisher", new_folder())
        .binary(env!("CARGO_BIN_EXE_publisher"))
        .set("kafka.brokers", brokers)
        .set("kafka.message_timeout", "3s")
        .set("http.body_timeout", "2s")
        .set("http.header_timeout", "2s")
        .set("http.request_timeout", "8s")
        .set("process.log_format", "json")
}

/// Adds the contract `proto`, in a file `record.proto`.
pub(crate) fn with_record(setup: ServiceOptions, proto: &str) -> ServiceOptions {
    let path = new_folder().join("record.proto");
    fs::write(&path, proto).unwrap();
    setup.set("record.proto", path.to_str().unwrap())
}

fn new_folder() -> PathBuf {
    let logs = testkit::workspace::target_dir().unwrap().join("testkit/logs");
    let folder = logs.join(format!("publisher_{}", Uuid::new_v4().simple()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Starts a publisher of a new topic on the shared Kafka and waits until it is ready.
pub(crate) async fn ready() -> (Publisher, Topic) {
    ready_with(|setup| setup).await
}

/// Starts a publisher of a new topic with further settings and waits until it is ready.
pub(crate) async fn ready_with(
    settings: impl FnOnce(ServiceOptions) -> ServiceOptions,
) -> (Publisher, Topic) {
    let topic = Topic::new(&super::broker::shared().await);
    let publisher = Publisher::start(&settings(setup(&topic.brokers, &topic.name))).await;
    publisher.wait_until_ready().await;
    (publisher, topic)
}

/// Starts a publisher of this contract and a new topic with further settings and waits until it is ready.
pub(crate) async fn ready_with_record(
    proto: &str,
    settings: impl FnOnce(ServiceOptions) -> ServiceOptions,
) -> (Publisher, Topic) {
    let resource = Contract::from_source(proto).unwrap().resource().to_owned();
    let (publisher, topic) = ready_with(|setup| settings(with_record(setup, proto))).await;
    (
        Publisher {
            resource,
            ..publisher
        },
        topic,
    )
}

/// Runs a publisher that should end by itself, and returns its exit code and the end of its log.
pub(crate) async fn exit(setup: &ServiceOptions) -> (Option<i32>, String) {
    let service = Service::start(setup).unwrap();
    let code = service.wait(EXIT_TIMEOUT).await.unwrap();
    (code, service.last_lines(10))
}

/// A client that gives up an idle connection before the publisher closes it after its `http.header_timeout`. A request that
/// is sent at that moment would fail.
fn client() -> Client {
    let client = Client::builder().pool_idle_timeout(Duration::from_secs(1));
    client.build().unwrap()
}

/// The address of the API in the log, once the service listens.
fn listen_address(service: &Service) -> Option<String> {
    let log = service.log();
    let mut lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.find(|line| line["message"] == "listening")?;
    Some(line["address"].as_str().unwrap().to_owned())
}

impl Publisher {
    /// Starts the process and waits until it listens, which it does without Kafka too.
    pub(crate) async fn start(setup: &ServiceOptions) -> Self {
        let service = Service::start(setup).unwrap();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(address) = listen_address(&service) {
                return Self {
                    url: format!("http://{address}"),
                    admin: service.admin(),
                    resource: "users".to_owned(),
                    client: client(),
                    service,
                };
            }
            service.check_running().unwrap();
            assert!(Instant::now() < deadline, "{}", service.last_lines(20));
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The process.
    pub(crate) fn child(&self) -> &Child {
        self.service.child().unwrap()
    }

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
        let (status, body) = self.service.get("/readyz").await.unwrap();
        (
            status.as_u16(),
            serde_json::from_str(&body).unwrap_or(Value::Null),
        )
    }

    pub(crate) async fn wait_until_ready(&self) {
        self.service.wait_until_ready(TIMEOUT).await.unwrap();
    }

    /// Polls until `condition` holds.
    pub(crate) async fn wait_until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !condition().await {
            assert!(
                Instant::now() < deadline,
                "not {what} within the timeout: {}",
                self.service.last_lines(20)
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The value of a metric with its labels, such as `records_total{outcome="accepted"}`.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let name = format!("publisher_{name}");
        let value = self.service.metric(&name, labels.trim_end_matches('}')).await;
        value.unwrap().unwrap_or_else(|| panic!("no {series}"))
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
