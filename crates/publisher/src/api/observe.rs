//! Counts every request, also one whose caller leaves before the answer.

use axum::Extension;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::middleware::Next;
use tokio::time::Instant;

use crate::metrics::PublisherMetrics;

/// Passes the request on and counts its answer.
pub(super) async fn observe(
    Extension(metrics): Extension<PublisherMetrics>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let observed = Observed::begin(metrics);
    let response = next.run(request).await;
    observed.answered(response.status());
    response
}

struct Observed {
    metrics: PublisherMetrics,
    started: Instant,
    status: Option<StatusCode>,
}

impl Observed {
    fn begin(metrics: PublisherMetrics) -> Self {
        metrics.requests_in_flight.inc();
        Self {
            metrics,
            started: Instant::now(),
            status: None,
        }
    }

    fn answered(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let status = self.status.as_ref().map_or("disconnected", StatusCode::as_str);
        self.metrics.request_answered(status);
        self.metrics.requests_in_flight.dec();
        self.metrics
            .request_seconds
            .observe(self.started.elapsed().as_secs_f64());
    }
}
