//! Prometheus metrics of the ingester. The README lists them.

use std::time::Duration;

use prometheus::{Counter, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};
use service::Metrics;

use crate::transform::mapping::MappingError;

/// A server that the ingester sends requests to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// The random-user API.
    Source,
    /// The publisher.
    Publisher,
}

impl Upstream {
    /// Returns the value of the `upstream` label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Publisher => "publisher",
        }
    }
}

/// All metrics of this service.
#[derive(Clone)]
#[allow(missing_docs, reason = "the help text describes each metric")]
pub struct IngesterMetrics {
    pub runs: IntCounterVec,
    pub running: IntGauge,
    pub run_duration: Histogram,
    pub last_success: Gauge,
    pub next_start: Gauge,
    pub starts_missed: IntCounter,
    pub starts_skipped: IntCounter,
    pub fetched: IntCounter,
    pub invalid: IntCounterVec,
    pub suspicious: IntCounterVec,
    pub duplicate: IntCounter,
    pub accepted: IntCounter,
    pub rejected: IntCounter,
    pub requests: IntCounterVec,
    pub request_duration: HistogramVec,
    pub retries: IntCounterVec,
    pub rate_limited_seconds: Counter,
    pub circuit_breaker_open: IntGauge,
    pub verdicts: IntCounterVec,
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
            running: metrics.gauge("running", "1 while a run is active."),
            run_duration: metrics.histogram("run_duration_seconds", "Duration of runs.", &RUN_BUCKETS),
            last_success: metrics.float_gauge(
                "last_success_timestamp_seconds",
                "Unix time of the last complete run; 0 before the first.",
            ),
            next_start: metrics.float_gauge(
                "next_start_timestamp_seconds",
                "Unix time of the next start; 0 if none is scheduled.",
            ),
            starts_missed: metrics.counter(
                "starts_missed_total",
                "Scheduled starts that did not run because the scheduler was not running.",
            ),
            starts_skipped: metrics.counter(
                "starts_skipped_total",
                "Scheduled starts that did not run because another run was active or the schedule was paused.",
            ),
            fetched: metrics.counter("users_fetched_total", "Users in valid replies of the API."),
            invalid: metrics.counter_vec(
                "users_invalid_total",
                "Fetched users that can't be mapped to a record, by field and rule.",
                &["field", "reason"],
            ),
            suspicious: metrics.counter_vec(
                "users_suspicious_total",
                "Valid users with a text that was probably decoded in a wrong character set, by reason.",
                &["reason"],
            ),
            duplicate: metrics.counter(
                "users_duplicate_total",
                "Users fetched again within a run; not sent.",
            ),
            accepted: metrics.counter("users_accepted_total", "Records that the publisher accepted."),
            rejected: metrics.counter("users_rejected_total", "Records that the publisher rejected."),
            requests: metrics.counter_vec(
                "requests_total",
                "Requests by upstream and by HTTP status or error kind.",
                &["upstream", "status"],
            ),
            request_duration: metrics.histogram_vec(
                "request_duration_seconds",
                "Duration of requests by upstream, with or without a response.",
                &["upstream"],
                &REQUEST_BUCKETS,
            ),
            retries: metrics.counter_vec("retries_total", "Retried requests by upstream.", &["upstream"]),
            rate_limited_seconds: metrics.float_counter(
                "rate_limited_seconds_total",
                "Time spent waiting for the API's rate limit.",
            ),
            circuit_breaker_open: metrics.gauge(
                "source_circuit_breaker_open",
                "1 while the circuit breaker stops requests to the API.",
            ),
            verdicts: metrics.counter_vec(
                "verdicts_total",
                "Ended runs by the final verdict of their comparison with the streamer's ledger.",
                &["verdict"],
            ),
        }
    }

    /// Records one request.
    pub fn request(&self, upstream: Upstream, status: &str, duration: Duration) {
        self.requests.with_label_values(&[upstream.name(), status]).inc();
        self.request_duration
            .with_label_values(&[upstream.name()])
            .observe(duration.as_secs_f64());
    }

    /// Counts a user that can't be mapped.
    pub fn record_mapping_error(&self, error: &MappingError) {
        self.invalid
            .with_label_values(&[error.field.as_str(), error.rule])
            .inc();
    }
}
