//! Counts every request, also one whose caller leaves before the answer.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use tokio::time::Instant;

use crate::metrics::PublisherMetrics;

/// Waits for the answer to a request and counts it.
pub(super) async fn observe(
    metrics: Arc<PublisherMetrics>,
    answering: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    let observed = Observed::begin(metrics);
    let response = answering.await?;
    observed.answered(response.status());
    Ok(response)
}

struct Observed {
    metrics: Arc<PublisherMetrics>,
    started: Instant,
    status: Option<StatusCode>,
}

impl Observed {
    fn begin(metrics: Arc<PublisherMetrics>) -> Self {
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
