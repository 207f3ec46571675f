//! The publisher's figures. They are recorded once per request or batch, never per record.

use prometheus::{Histogram, IntCounterVec, IntGauge};
use service::Metrics;

/// What is counted; each field's text is the metric's help text.
#[derive(Clone)]
pub struct PublisherMetrics {
    /// Requests by the status they were answered with; `disconnected` when the caller did not wait.
    pub(crate) requests: IntCounterVec,
    /// Seconds from a request's head to its answer.
    pub(crate) request_seconds: Histogram,
    /// Requests that are being worked on.
    pub(crate) requests_in_flight: IntGauge,
    /// Open connections.
    pub(crate) connections: IntGauge,
    /// Records by outcome: accepted, rejected (invalid), refused (by Kafka), unknown.
    pub(crate) records: IntCounterVec,
    /// Invalid records by the rule they broke.
    pub(crate) records_rejected: IntCounterVec,
    /// Records that Kafka has not acknowledged yet.
    pub(crate) records_in_flight: IntGauge,
    /// Bytes of the requests that are being worked on.
    pub(crate) bytes_in_flight: IntGauge,
    /// Records of one request that went to Kafka together.
    pub(crate) batch_records: Histogram,
    /// Seconds from a batch's first record being queued to its last acknowledgement.
    pub(crate) delivery_seconds: Histogram,
    /// Whether Kafka answers and every partition of the topic has a leader: 1 or 0.
    pub(crate) kafka_up: IntGauge,
}

/// The rule that is not the model's but ours: a record above `limits.max_record`.
pub(crate) const TOO_LARGE: &str = "too_large";

const SECONDS: [f64; 14] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];
const RECORDS: [f64; 9] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0];

impl PublisherMetrics {
    /// Creates and registers them. To be called once for a registry.
    pub fn new(metrics: &Metrics) -> Self {
        let created = Self {
            requests: metrics.counter_vec(
                "requests_total",
                "Requests by the status they were answered with; disconnected when the caller did not wait.",
                &["status"],
            ),
            request_seconds: metrics.histogram(
                "request_seconds",
                "Seconds from a request's head to its answer.",
                &SECONDS,
            ),
            requests_in_flight: metrics.gauge("requests_in_flight", "Requests that are being worked on."),
            connections: metrics.gauge("connections", "Open connections."),
            records: metrics.counter_vec(
                "records_total",
                "Records by outcome: accepted, rejected (invalid), refused (by Kafka), unknown.",
                &["outcome"],
            ),
            records_rejected: metrics.counter_vec(
                "records_rejected_total",
                "Invalid records by the rule they broke.",
                &["reason"],
            ),
            records_in_flight: metrics.gauge(
                "records_in_flight",
                "Records that Kafka has not acknowledged yet.",
            ),
            bytes_in_flight: metrics.gauge(
                "bytes_in_flight",
                "Bytes of the requests that are being worked on.",
            ),
            batch_records: metrics.histogram(
                "batch_records",
                "Records of one request that went to Kafka together.",
                &RECORDS,
            ),
            delivery_seconds: metrics.histogram(
                "delivery_seconds",
                "Seconds from a batch's first record being queued to its last acknowledgement.",
                &SECONDS,
            ),
            kafka_up: metrics.gauge(
                "kafka_up",
                "Whether Kafka answers and every partition of the topic has a leader: 1 or 0.",
            ),
        };
        created.show_zeros();
        created
    }

    /// A series that appears only with its first event can't be alerted on.
    fn show_zeros(&self) {
        for outcome in ["accepted", "rejected", "refused", "unknown"] {
            self.records.with_label_values(&[outcome]);
        }
        for reason in model::Reason::LABELS.into_iter().chain([TOO_LARGE]) {
            self.records_rejected.with_label_values(&[reason]);
        }
    }

    /// Counts a request that was answered with `status`.
    pub fn request_answered(&self, status: &str) {
        self.requests.with_label_values(&[status]).inc();
    }

    /// Counts records by outcome, if there are any.
    pub(crate) fn count_records(&self, outcome: &str, count: usize) {
        if count > 0 {
            self.records.with_label_values(&[outcome]).inc_by(count as u64);
        }
    }
}
