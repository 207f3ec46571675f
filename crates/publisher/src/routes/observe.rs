//! Counts every request, including those whose caller disconnects before the response, and logs it if the access log is on.
//! Starts the span of a request, if its trace is
//! sampled. Log and span have no values: of a path with a key only the route.

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use model::headers::http::{RUN_ID, TRACEPARENT};
use service::trace::{Kind, Span, SpanId, TraceContext, TraceId, Tracer};
use tokio::time::Instant;

use super::request_id::RequestId;
use crate::config::AccessLog;
use crate::metrics::PublisherMetrics;

/// An extension of a logged request: the name of its caller, once it is authenticated.
#[derive(Clone, Default)]
pub(super) struct LoggedCaller(Arc<OnceLock<Arc<str>>>);

impl LoggedCaller {
    pub(super) fn set(&self, name: &Arc<str>) {
        // It is set once for a request.
        let _ = self.0.set(Arc::clone(name));
    }
}

/// Observes the requests of all connections.
#[derive(Clone)]
pub(super) struct Observer {
    metrics: Arc<PublisherMetrics>,
    access_log: AccessLog,
    /// The path of the resource.
    resource: Arc<str>,
    tracer: Tracer,
}

impl Observer {
    pub(super) fn new(
        metrics: Arc<PublisherMetrics>,
        access_log: AccessLog,
        resource: &str,
        tracer: Tracer,
    ) -> Self {
        Self {
            metrics,
            access_log,
            resource: resource.into(),
            tracer,
        }
    }

    /// Begins the observation of a request, and gives it an id.
    pub(super) fn begin(&self, request: &mut Request) -> Observation {
        let id = RequestId::take_or_create(request.headers_mut());
        let entry = (self.access_log != AccessLog::Off).then(|| {
            let caller = LoggedCaller::default();
            request.extensions_mut().insert(caller.clone());
            LogEntry {
                method: request.method().clone(),
                route: self.route(request.uri().path()),
                caller,
                errors_only: self.access_log == AccessLog::Errors,
            }
        });
        let span = self.tracer.is_on().then(|| self.span(request)).flatten();
        self.metrics.requests_in_flight.inc();
        Observation {
            metrics: Arc::clone(&self.metrics),
            started: Instant::now(),
            status: None,
            id,
            entry,
            span,
        }
    }

    /// Starts the span of a request that writes, and makes it the parent of what the request does. A request of an unsampled trace
    /// has no `traceparent` afterwards.
    fn span(&self, request: &mut Request) -> Option<Span> {
        let route = self.route(request.uri().path());
        let method = request.method().clone();
        if !matches!(
            (&method, route),
            (&Method::POST, Route::Resource) | (&Method::DELETE, Route::Key)
        ) {
            return None;
        }
        let headers = request.headers_mut();
        let Some(mut span) = request_span(&self.tracer, headers) else {
            headers.remove(TRACEPARENT);
            return None;
        };
        let traceparent = HeaderValue::try_from(span.context().traceparent());
        headers.insert(
            TRACEPARENT,
            traceparent.expect("hexadecimal digits are valid in a header"),
        );
        span.set("http.request.method", method.as_str());
        span.set("http.route", route.name());
        Some(span)
    }

    /// The route of a path, without the key in it.
    fn route(&self, path: &str) -> Route {
        match path.strip_prefix(&*self.resource) {
            Some("") => Route::Resource,
            Some(rest) if rest.starts_with('/') => Route::Key,
            _ if matches!(path, "/v1/schema" | "/openapi.json") => Route::Document,
            _ => Route::Unknown,
        }
    }
}

/// Starts a span below the caller's, or else in the trace of the request's run, or else in a new trace.
fn request_span(tracer: &Tracer, headers: &HeaderMap) -> Option<Span> {
    let given = headers.get(TRACEPARENT);
    if let Some(caller) = given.and_then(|given| TraceContext::parse(given.as_bytes())) {
        return tracer.child("request", Kind::Server, &caller);
    }
    let run = headers.get(RUN_ID).and_then(|run| run.to_str().ok());
    let trace = run.map_or_else(TraceId::random, TraceId::of_run);
    let context = TraceContext {
        trace,
        span: SpanId::random(),
        sampled: tracer.samples(trace),
    };
    tracer.span("request", Kind::Server, context, None)
}

/// The routes, as the access log names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Resource,
    Key,
    Document,
    Unknown,
}

impl Route {
    fn name(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Key => "key",
            Self::Document => "document",
            Self::Unknown => "unknown",
        }
    }
}

/// One request while it is in flight.
pub(super) struct Observation {
    metrics: Arc<PublisherMetrics>,
    started: Instant,
    status: Option<StatusCode>,
    id: RequestId,
    entry: Option<LogEntry>,
    span: Option<Span>,
}

struct LogEntry {
    method: Method,
    route: Route,
    caller: LoggedCaller,
    errors_only: bool,
}

impl Observation {
    /// Ends with the response, and gives it the id.
    pub(super) fn end(mut self, response: &mut Response<Body>) {
        self.id.add_to(response.headers_mut());
        self.status = Some(response.status());
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let status = self.status.as_ref().map_or("disconnected", StatusCode::as_str);
        self.metrics.count_request(status);
        self.metrics.requests_in_flight.dec();
        let duration = self.started.elapsed();
        self.metrics.request_duration.observe(duration.as_secs_f64());
        if let Some(mut span) = self.span.take() {
            let (seconds, trace) = (duration.as_secs_f64(), span.context().trace);
            self.metrics.request_duration.set_exemplar(seconds, trace);
            match self.status {
                Some(status) => span.set("http.response.status_code", status.as_u16()),
                None => span.fail("the caller disconnected"),
            }
            if self.status.is_some_and(|status| status.is_server_error()) {
                span.fail("the response is an error of the server");
            }
        }
        if let Some(entry) = &self.entry {
            let is_error = self.status.is_none_or(|status| !status.is_success());
            if is_error || !entry.errors_only {
                let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(
                    request_id = self.id.as_str(),
                    method = entry.method.as_str(),
                    route = entry.route.name(),
                    caller = entry.caller.0.get().map(|name| &**name),
                    status,
                    duration_ms,
                    "request"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use service::{Metrics, TelemetrySettings};

    use super::*;

    const RUN: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// The `traceparent` that a request with this method and these headers has once its span is started.
    fn traced(sample_ratio: f64, method: Method, headers: &[(&'static str, &'static str)]) -> Option<String> {
        let settings = TelemetrySettings {
            otlp_endpoint: Some("http://127.0.0.1:9".to_owned()),
            sample_ratio,
            ..TelemetrySettings::default()
        };
        let registry = Metrics::new("test");
        let tracer = Tracer::start("test", &settings, &registry).unwrap();
        let metrics = Arc::new(PublisherMetrics::new(&registry));
        let observer = Observer::new(metrics, AccessLog::Off, "/v1/users", tracer);
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = "/v1/users".parse().unwrap();
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(*name, HeaderValue::from_static(value));
        }
        let _observation = observer.begin(&mut request);
        let traceparent = request.headers().get(TRACEPARENT)?;
        Some(traceparent.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn request_is_in_the_trace_of_its_caller_or_its_run() {
        let below_caller = traced(0.0, Method::POST, &[(TRACEPARENT, CALLER), (RUN_ID, RUN)]).unwrap();
        let (caller, parsed) = (
            TraceContext::parse(CALLER.as_bytes()),
            TraceContext::parse(below_caller.as_bytes()),
        );
        let (caller, parsed) = (caller.unwrap(), parsed.unwrap());
        assert_eq!((parsed.trace, parsed.sampled), (caller.trace, true));
        assert_ne!(parsed.span, caller.span);
        let of_run = traced(1.0, Method::POST, &[(RUN_ID, RUN)]).unwrap();
        assert!(of_run.starts_with("00-0195d0b17a4c7f3e9b1a2c3d4e5f6071-") && of_run.ends_with("-01"));
        assert!(traced(1.0, Method::POST, &[]).is_some(), "a new trace");
    }

    #[tokio::test]
    async fn unsampled_request_and_probe_have_no_span() {
        let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        assert_eq!(traced(1.0, Method::POST, &[(TRACEPARENT, unsampled)]), None);
        assert_eq!(traced(0.0, Method::POST, &[(RUN_ID, RUN)]), None);
        assert_eq!(traced(1.0, Method::GET, &[]), None);
    }

    #[test]
    fn route_has_no_key() {
        let metrics = Arc::new(PublisherMetrics::new(&Metrics::new("test")));
        let observer = Observer::new(metrics, AccessLog::All, "/v1/users", Tracer::default());
        for (path, route) in [
            ("/v1/users", "resource"),
            ("/v1/users/0195d0b1", "key"),
            ("/v1/users/a/b", "key"),
            ("/v1/schema", "document"),
            ("/v1/users2", "unknown"),
            ("/", "unknown"),
        ] {
            assert_eq!(observer.route(path).name(), route, "{path}");
        }
    }
}
