//! Counts every request, including those whose caller disconnects before the response.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use tokio::time::Instant;

use crate::metrics::PublisherMetrics;

/// Waits for the response to a request and counts it.
pub(super) async fn observe(
    metrics: Arc<PublisherMetrics>,
    responding: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    let observation = Observation::begin(metrics);
    let response = responding.await?;
    observation.end(response.status());
    Ok(response)
}

struct Observation {
    metrics: Arc<PublisherMetrics>,
    started: Instant,
    status: Option<StatusCode>,
}

impl Observation {
    fn begin(metrics: Arc<PublisherMetrics>) -> Self {
        metrics.requests_in_flight.inc();
        Self {
            metrics,
            started: Instant::now(),
            status: None,
        }
    }

    fn end(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let status = self.status.as_ref().map_or("disconnected", StatusCode::as_str);
        self.metrics.count_request(status);
        self.metrics.requests_in_flight.dec();
        self.metrics
            .request_duration
            .observe(self.started.elapsed().as_secs_f64());
    }
}
