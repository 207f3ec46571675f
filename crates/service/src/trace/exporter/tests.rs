//! The exporter against a collector in the test.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use tokio::net::TcpListener;

use super::super::otlp::{Any, OtlpSpan, PartialSuccess};
use super::super::{Kind, QUEUE, SpanId, TelemetrySettings, TraceContext, TraceId, Tracer};
use super::*;
use crate::metrics::Metrics;

/// What the collector responds with: a status, and the number of spans that it rejects.
type Responses = Vec<(u16, i64)>;

#[derive(Clone, Default)]
struct FakeCollector {
    requests: Arc<Mutex<Vec<(HeaderMap, ExportRequest)>>>,
    /// The responses in reverse order; 200 once there is none.
    responses: Arc<Mutex<Responses>>,
}

impl FakeCollector {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/v1/traces", post(receive))
            .with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    fn spans(&self) -> Vec<OtlpSpan> {
        let requests = self.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|(_, request)| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

async fn receive(
    State(collector): State<FakeCollector>,
    headers: HeaderMap,
    body: Bytes,
) -> (axum::http::StatusCode, Vec<u8>) {
    let request = ExportRequest::decode(body).unwrap();
    collector.requests.lock().unwrap().push((headers, request));
    let (status, rejected_spans) = collector.responses.lock().unwrap().pop().unwrap_or((200, 0));
    let response = ExportResponse {
        partial_success: (rejected_spans > 0).then_some(PartialSuccess { rejected_spans }),
    };
    (status.try_into().unwrap(), response.encode_to_vec())
}

fn tracer(endpoint: &str, ratio: f64) -> (Tracer, Metrics) {
    let metrics = Metrics::new("test");
    let settings = TelemetrySettings {
        otlp_endpoint: Some(endpoint.to_owned()),
        otlp_headers: Some(crate::Secret::new("api-key=s")),
        sample_ratio: ratio,
    };
    (Tracer::start("test", &settings, &metrics).unwrap(), metrics)
}

fn root(tracer: &Tracer) -> TraceContext {
    let trace = TraceId::random();
    TraceContext {
        trace,
        span: SpanId::random(),
        sampled: tracer.samples(trace),
    }
}

const FLUSH: Duration = Duration::from_secs(60);

#[tokio::test]
async fn span_arrives_with_ids_attributes_links_and_status() {
    let collector = FakeCollector::default();
    let (tracer, metrics) = tracer(&collector.start().await, 1.0);
    let (context, other) = (root(&tracer), root(&tracer));
    let mut span = tracer.child("write", Kind::Consumer, &context).unwrap();
    span.set("records", 7_usize);
    span.set("topic", "users");
    span.link(other);
    span.fail("refused");
    let id = span.context();
    drop(span);
    tracer.flush(FLUSH).await;
    let spans = collector.spans();
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(span.trace_id, context.trace.bytes());
    assert_eq!(span.span_id, id.span.bytes());
    assert_eq!(span.parent_span_id, context.span.bytes());
    assert_eq!((span.name.as_str(), span.kind, span.flags), ("write", 5, 1));
    assert!(span.start_time_unix_nano > 0 && span.start_time_unix_nano <= span.end_time_unix_nano);
    let values = span.attributes.iter().map(|attribute| {
        let value = attribute.value.clone().unwrap().value.unwrap();
        (attribute.key.as_str(), value)
    });
    let expected = [
        ("records", Any::Integer(7)),
        ("topic", Any::Text("users".to_owned())),
    ];
    assert!(values.eq(expected));
    assert_eq!(span.links[0].trace_id, other.trace.bytes());
    assert_eq!(span.status.clone().unwrap().code, 2);
    let headers = collector.requests.lock().unwrap()[0].0.clone();
    assert_eq!(
        (&headers["api-key"], &headers["content-type"]),
        (&"s".parse().unwrap(), &MEDIA_TYPE.parse().unwrap())
    );
    assert!(metrics.render().contains("test_spans_exported_total 1\n"));
}

#[tokio::test]
async fn unsampled_trace_has_no_span() {
    let (tracer, _) = tracer(&FakeCollector::default().start().await, 0.0);
    let context = root(&tracer);
    assert!(!context.sampled && tracer.child("page", Kind::Internal, &context).is_none());
    let off = Tracer::default();
    let sampled = TraceContext {
        sampled: true,
        ..context
    };
    assert!(!off.is_on() && off.child("page", Kind::Internal, &sampled).is_none());
    off.flush(FLUSH).await;
}

#[tokio::test]
async fn links_above_the_limit_are_counted() {
    let collector = FakeCollector::default();
    let (tracer, _) = tracer(&collector.start().await, 1.0);
    let context = root(&tracer);
    let mut span = tracer.child("micro-batch", Kind::Consumer, &context).unwrap();
    (0..super::super::span::MAX_LINKS + 3).for_each(|_| span.link(context));
    drop(span);
    tracer.flush(FLUSH).await;
    let span = &collector.spans()[0];
    assert_eq!((span.links.len(), span.dropped_links_count), (128, 3));
}

#[tokio::test]
async fn busy_collector_gets_the_batch_again() {
    let collector = FakeCollector::default();
    collector.responses.lock().unwrap().extend([(200, 1), (503, 0)]);
    let (tracer, metrics) = tracer(&collector.start().await, 1.0);
    for _ in 0..3 {
        drop(tracer.child("page", Kind::Internal, &root(&tracer)));
    }
    tracer.flush(FLUSH).await;
    assert_eq!(collector.requests.lock().unwrap().len(), 2);
    let text = metrics.render();
    assert!(
        text.contains("test_spans_exported_total 2\n"),
        "one of three is rejected: {text}"
    );
    assert!(text.contains("test_spans_dropped_total 1\n"));
}

#[tokio::test]
async fn refusing_collector_costs_spans_and_no_wait() {
    let collector = FakeCollector::default();
    collector.responses.lock().unwrap().push((400, 0));
    let (tracer, metrics) = tracer(&collector.start().await, 1.0);
    drop(tracer.child("page", Kind::Internal, &root(&tracer)));
    tracer.flush(FLUSH).await;
    assert_eq!(collector.requests.lock().unwrap().len(), 1);
    assert!(metrics.render().contains("test_spans_dropped_total 1\n"));
}

#[tokio::test]
async fn full_queue_drops_spans_without_waiting() {
    // A collector that accepts connections and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tracer, metrics) = tracer(&format!("http://{}", silent.local_addr().unwrap()), 1.0);
    let context = root(&tracer);
    // The exporter has no chance to run in between.
    for _ in 0..QUEUE + 10 {
        drop(tracer.child("page", Kind::Internal, &context));
    }
    assert!(metrics.render().contains("test_spans_dropped_total 10\n"));
    tracer.flush(Duration::from_millis(50)).await;
}
