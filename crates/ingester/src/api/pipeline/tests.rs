//! Tests of the pipeline document, with a publisher and a streamer that report given states.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use service::{Context, Metrics};
use tokio::net::TcpListener;

use super::*;
use crate::config::IngesterSettings;
use crate::metrics::IngesterMetrics;
use crate::run::active_run::ActiveRun;
use crate::scheduler::run_queue::RunQueue;
use crate::store::Store;

/// A service whose `/status` returns a document.
struct FakeService {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl FakeService {
    async fn start(document: Value) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let respond = move || {
            counter.fetch_add(1, Ordering::Relaxed);
            let body = document.to_string();
            async move { body }
        };
        Self {
            url: serve(Router::new().route("/status", get(respond))).await,
            requests,
        }
    }
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn document(service: &str, dependencies: &[(&str, Option<&str>)], sections: &Value) -> Value {
    let report = |(name, reason): &(&str, Option<&str>)| match reason {
        None => json!({"name": name, "ready": true}),
        Some(reason) => json!({"name": name, "ready": false, "reason": reason}),
    };
    let mut document = json!({
        "service": service, "version": "0.2.0", "uptime_seconds": 5, "stopping": false,
        "ready": dependencies.iter().all(|(_, reason)| reason.is_none()),
        "dependencies": dependencies.iter().map(report).collect::<Vec<_>>(),
    });
    let sections = sections.as_object().cloned().unwrap_or_default();
    document.as_object_mut().unwrap().extend(sections);
    document
}

fn publisher(dependencies: &[(&str, Option<&str>)]) -> Value {
    let rates = json!({"rates": {"records_per_second": 12.5, "requests_per_second": 1.0}});
    document("publisher", dependencies, &rates)
}

fn streamer(dependencies: &[(&str, Option<&str>)]) -> Value {
    let sections = json!({
        "rates": {"records_per_second": 11.0, "rows_per_second": 10.0},
        "lag": {"total": 7, "partitions": [
            {"partition": 0, "lag": 7, "halted": null}, {"partition": 1, "lag": 0, "halted": "9 consecutive dead letters"}]},
        "end_to_end": {"p50_ms": 12.5, "p99_ms": 40.0},
        "dead_letters": {"last_24h": {"malformed": 2, "tombstone": 1}, "newest": [
            {"partition": 1, "offset": 5, "reason": "malformed", "at": "2026-11-28T03:51:00Z"}]},
    });
    document("streamer", dependencies, &sections)
}

fn pipeline_of(publisher: Option<&str>, streamer: Option<&str>) -> PipelineComposer {
    let endpoint = |url: &str| Endpoint::parse(url).unwrap();
    let mut settings = IngesterSettings::default();
    settings.pipeline.publisher_url = publisher.map(endpoint);
    settings.pipeline.streamer_url = streamer.map(endpoint);
    let pipeline = settings.pipeline.clone();
    let queue = RunQueue::new(Store::in_memory().unwrap(), ActiveRun::default(), settings);
    let context = Context::new("ingester");
    let metrics = IngesterMetrics::new(&Metrics::new("ingester"));
    PipelineComposer::new(IngesterStatus::new(queue, &metrics, &context), pipeline).unwrap()
}

async fn view(publisher: Option<&str>, streamer: Option<&str>) -> Value {
    let view = pipeline_of(publisher, streamer).view().await.unwrap();
    serde_json::to_value(view).unwrap()
}

/// State and reason of a stage.
fn stage<'v>(view: &'v Value, name: &str) -> (&'v str, &'v str) {
    let stages = view["stages"].as_array().unwrap();
    let stage = stages.iter().find(|stage| stage["name"] == name).unwrap();
    (
        stage["state"].as_str().unwrap(),
        stage["reason"].as_str().unwrap_or_default(),
    )
}

#[tokio::test]
async fn view_combines_the_documents_of_all_services() {
    let publisher = FakeService::start(publisher(&[("kafka", None)])).await;
    let streamer = FakeService::start(streamer(&[("kafka", None), ("cassandra", None)])).await;
    let view = view(Some(&publisher.url), Some(&streamer.url)).await;
    let stages = view["stages"].as_array().unwrap();
    let names: Vec<_> = stages
        .iter()
        .map(|stage| stage["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "source",
            "ingester",
            "publisher",
            "kafka",
            "streamer",
            "cassandra"
        ]
    );
    let rates: Vec<_> = stages
        .iter()
        .map(|stage| stage["records_per_second"].clone())
        .collect();
    assert_eq!(json!(rates), json!([0.0, 0.0, 12.5, 11.0, 10.0, null]));
    for name in ["publisher", "kafka", "streamer", "cassandra"] {
        assert_eq!(stage(&view, name), ("ok", ""), "{name}");
    }
    assert_eq!(stage(&view, "ingester"), ("ok", "idle"));
    assert_eq!(stage(&view, "source"), ("unknown", "no request was sent yet"));
    let figures = json!({"freshness_p99_ms": 40.0, "lag": 7, "dead_letters_24h": 3, "last_success_at": null});
    assert_eq!(view["figures"], figures);
    assert_eq!(
        view["lag"]["partitions"][1]["halted"],
        "9 consecutive dead letters"
    );
    assert_eq!(view["dead_letters"]["newest"][0]["at"], "2026-11-28T03:51:00Z");
    assert_eq!(
        (&view["run"], &view["schedule"]),
        (&Value::Null, &json!({"paused": false, "next": []}))
    );
}

#[tokio::test]
async fn outage_of_a_server_is_reported_by_those_that_use_it() {
    let publisher = FakeService::start(publisher(&[("kafka", Some("no broker responds"))])).await;
    let dependencies = [("kafka", None), ("cassandra", Some("connection refused"))];
    let streamer = FakeService::start(streamer(&dependencies)).await;
    let view = view(Some(&publisher.url), Some(&streamer.url)).await;
    assert_eq!(stage(&view, "kafka"), ("down", "publisher: no broker responds"));
    assert_eq!(stage(&view, "publisher"), ("waiting", "it waits for Kafka"));
    assert_eq!(
        stage(&view, "cassandra"),
        ("down", "streamer: connection refused")
    );
    assert_eq!(stage(&view, "streamer"), ("waiting", "it waits for Cassandra"));
}

#[tokio::test]
async fn halted_partition_and_shutdown_are_states_of_the_service() {
    let dependencies = [("cassandra", None), ("partitions", Some("partition 1 is halted"))];
    let halted = FakeService::start(streamer(&dependencies)).await;
    let mut stopping = publisher(&[("kafka", None)]);
    (stopping["stopping"], stopping["ready"]) = (true.into(), false.into());
    let stopping = FakeService::start(stopping).await;
    let view = view(Some(&stopping.url), Some(&halted.url)).await;
    assert_eq!(
        stage(&view, "streamer"),
        ("down", "partitions: partition 1 is halted")
    );
    assert_eq!(stage(&view, "publisher"), ("waiting", "it shuts down"));
}

#[tokio::test]
async fn without_urls_the_other_stages_are_unknown() {
    let pipeline = pipeline_of(None, None);
    let view = serde_json::to_value(pipeline.view().await.unwrap()).unwrap();
    assert_eq!(
        stage(&view, "publisher"),
        ("unknown", "pipeline.publisher_url is not set")
    );
    assert_eq!(
        stage(&view, "streamer"),
        ("unknown", "pipeline.streamer_url is not set")
    );
    for name in ["kafka", "cassandra"] {
        assert_eq!(stage(&view, name), ("unknown", "no service reports it"), "{name}");
    }
    assert_eq!(
        (&view["lag"], &view["figures"]["lag"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn unavailable_service_is_down_with_address_and_cause() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = format!("http://{free}");
    // Accepts connections and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let found = view(Some(&refused), Some(&silent_url)).await;
    let (state, reason) = stage(&found, "publisher");
    assert_eq!(state, "down");
    assert!(
        reason.starts_with(&format!("{refused}/status: ")) && reason.contains("refused"),
        "{reason}"
    );
    let expected = format!("{silent_url}/status: no response within 1 s");
    assert_eq!(stage(&found, "streamer"), ("down", expected.as_str()));
    assert_eq!(stage(&found, "cassandra").0, "unknown");

    let other = FakeService::start(publisher(&[])).await;
    let garbage = serve(Router::new().route("/status", get(|| async { "<html>" }))).await;
    let found = view(Some(&garbage), Some(&other.url)).await;
    let (state, reason) = stage(&found, "publisher");
    assert!(
        state == "down" && reason.contains("no status document"),
        "{state}: {reason}"
    );
    let expected = format!("{}/status: this is the publisher, not the streamer", other.url);
    assert_eq!(stage(&found, "streamer"), ("down", expected.as_str()));

    let missing = serve(Router::new()).await;
    let found = view(Some(&missing), None).await;
    let expected = format!("{missing}/status: it responded with 404");
    assert_eq!(stage(&found, "publisher"), ("down", expected.as_str()));
}

#[tokio::test]
async fn documents_are_requested_once_for_many_readers() {
    let publisher = FakeService::start(publisher(&[])).await;
    let pipeline = pipeline_of(Some(&publisher.url), None);
    // The lock is held during the request, so later readers find its result. It is fresh for a second from then on.
    let views = futures::future::join_all((0..20).map(|_| pipeline.view())).await;
    assert!(views.iter().all(Result::is_ok));
    let requests = publisher.requests.load(Ordering::Relaxed);
    assert!((1..20).contains(&requests), "{requests}");
}
