//! The ingester's metrics. Each is described once, by the help text it is registered with; the README lists them.

use std::time::Duration;

use prometheus::{Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};
use service::Metrics;

use crate::transform::mapping::MappingError;

/// One of the two directions in which requests go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// To the random-user API.
    Source,
    /// To the publisher.
    Publisher,
}

impl Upstream {
    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Publisher => "publisher",
        }
    }
}

/// Every metric of this service.
#[derive(Clone)]
#[allow(missing_docs, reason = "the help text of each says what it is")]
pub struct IngesterMetrics {
    pub runs: IntCounterVec,
    pub running: IntGauge,
    pub run_seconds: Histogram,
    pub last_success: Gauge,
    pub next_start: Gauge,
    pub missed: IntCounter,
    pub skipped: IntCounter,
    pub fetched: IntCounter,
    pub invalid: IntCounterVec,
    pub duplicate: IntCounter,
    pub accepted: IntCounter,
    pub rejected: IntCounter,
    pub requests: IntCounterVec,
    pub request_seconds: HistogramVec,
    pub retries: IntCounterVec,
    pub rate_limited_seconds: Gauge,
    pub circuit_breaker_open: IntGauge,
}

const RUN_BUCKETS: [f64; 10] = [0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0];
const REQUEST_BUCKETS: [f64; 12] = [
    0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0,
];

impl IngesterMetrics {
    /// Registers every metric.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            runs: metrics.counter_vec("runs_total", "Runs that ended, by outcome.", &["outcome"]),
            running: metrics.gauge("running", "1 while a run is under way."),
            run_seconds: metrics.histogram("run_duration_seconds", "How long runs take.", &RUN_BUCKETS),
            last_success: metrics.float_gauge(
                "last_success_timestamp_seconds",
                "When a run was last complete, in seconds since 1970; 0 before the first.",
            ),
            next_start: metrics.float_gauge(
                "next_start_timestamp_seconds",
                "When the next run starts, in seconds since 1970; 0 while nothing is scheduled.",
            ),
            missed: metrics.counter(
                "starts_missed_total",
                "Starts that nobody was there for and that came to nothing.",
            ),
            skipped: metrics.counter(
                "starts_skipped_total",
                "Starts that fell into another run and came to nothing.",
            ),
            fetched: metrics.counter("users_fetched_total", "Users in verified replies of the API."),
            invalid: metrics.counter_vec(
                "users_invalid_total",
                "Fetched users that make no record, by the record's field and the rule.",
                &["field", "reason"],
            ),
            duplicate: metrics.counter(
                "users_duplicate_total",
                "Users fetched again within a run, not sent.",
            ),
            accepted: metrics.counter("users_accepted_total", "Records that the publisher accepted."),
            rejected: metrics.counter("users_rejected_total", "Records that the publisher refused."),
            requests: metrics.counter_vec(
                "requests_total",
                "Requests by upstream and status, or what came in place of one.",
                &["upstream", "status"],
            ),
            request_seconds: metrics.histogram_vec(
                "request_duration_seconds",
                "How long requests take, answered or not, by upstream.",
                &["upstream"],
                &REQUEST_BUCKETS,
            ),
            retries: metrics.counter_vec(
                "retries_total",
                "Requests sent again, by upstream.",
                &["upstream"],
            ),
            rate_limited_seconds: metrics.float_gauge(
                "rate_limited_seconds_total",
                "Time spent waiting for the API's budget since the start; it only grows.",
            ),
            circuit_breaker_open: metrics.gauge(
                "source_circuit_breaker_open",
                "1 while the API is left alone because it only fails.",
            ),
        }
    }

    /// Counts one request.
    pub fn request(&self, upstream: Upstream, status: &str, duration: Duration) {
        self.requests.with_label_values(&[upstream.name(), status]).inc();
        self.request_seconds
            .with_label_values(&[upstream.name()])
            .observe(duration.as_secs_f64());
    }

    /// Counts one user that makes no record.
    pub fn record_mapping_error(&self, error: MappingError) {
        self.invalid
            .with_label_values(&[error.field.name(), error.rule])
            .inc();
    }
}
