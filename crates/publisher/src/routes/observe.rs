//! Counts every request, including those whose caller disconnects before the response, and logs it if the access log is on.
//! The log has no values: of a path with a key only the route.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, Response, StatusCode};
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
}

impl Observer {
    pub(super) fn new(metrics: Arc<PublisherMetrics>, access_log: AccessLog, resource: &str) -> Self {
        Self {
            metrics,
            access_log,
            resource: resource.into(),
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
        self.metrics.requests_in_flight.inc();
        Observation {
            metrics: Arc::clone(&self.metrics),
            started: Instant::now(),
            status: None,
            id,
            entry,
        }
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
}

struct LogEntry {
    method: Method,
    route: Route,
    caller: LoggedCaller,
    errors_only: bool,
}

impl Observation {
    /// Waits for the response to the request, and gives it the id.
    pub(super) async fn observe(
        mut self,
        responding: impl Future<Output = Result<Response<Body>, Infallible>>,
    ) -> Result<Response<Body>, Infallible> {
        let mut response = responding.await?;
        self.id.add_to(response.headers_mut());
        self.status = Some(response.status());
        Ok(response)
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let status = self.status.as_ref().map_or("disconnected", StatusCode::as_str);
        self.metrics.count_request(status);
        self.metrics.requests_in_flight.dec();
        let duration = self.started.elapsed();
        self.metrics.request_duration.observe(duration.as_secs_f64());
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
    use service::Metrics;

    use super::*;

    #[test]
    fn route_has_no_key() {
        let metrics = Arc::new(PublisherMetrics::new(&Metrics::new("test")));
        let observer = Observer::new(metrics, AccessLog::All, "/v1/users");
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
