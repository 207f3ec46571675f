//! The publisher's figures. They are recorded once per request or batch, never per record.

use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounterVec, IntGauge};
use rdkafka::Statistics;
use rdkafka::statistics::{Broker, Window};
use service::Metrics;

/// What is counted; each field's text is the metric's help text. Shared, never copied: that would count all its
/// references up and down with each request.
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
    /// Bytes of the requests that are being worked on, with what their records take besides, and of unread answers.
    pub(crate) bytes_in_flight: IntGauge,
    /// Records of one request that went to Kafka together.
    pub(crate) batch_records: Histogram,
    /// Seconds from a batch's first record being queued to its last acknowledgement.
    pub(crate) delivery_seconds: Histogram,
    /// Requests with an idempotency key: first, repeated, reused (with another body), full (not remembered).
    pub(crate) idempotency: IntCounterVec,
    /// Records in librdkafka's queue and on their way.
    pub(crate) producer_records: IntGauge,
    /// Seconds a record waits in librdkafka's queue, 99th percentile.
    pub(crate) producer_queue_seconds: Gauge,
    /// Records in one batch to the broker, on average.
    pub(crate) producer_batch_records: Gauge,
    /// Seconds from a request to a broker to its answer, 99th percentile of the slowest broker.
    pub(crate) broker_round_trip_seconds: Gauge,
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
                "request_duration_seconds",
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
                "Bytes of the requests that are being worked on, with what their records take besides, and of unread answers.",
            ),
            batch_records: metrics.histogram(
                "batch_records",
                "Records of one request that went to Kafka together.",
                &RECORDS,
            ),
            delivery_seconds: metrics.histogram(
                "delivery_duration_seconds",
                "Seconds from a batch's first record being queued to its last acknowledgement.",
                &SECONDS,
            ),
            idempotency: metrics.counter_vec(
                "idempotency_total",
                "Requests with an idempotency key: first, repeated, reused (with another body), full (not remembered).",
                &["result"],
            ),
            producer_records: metrics.gauge(
                "producer_records",
                "Records in librdkafka's queue and on their way.",
            ),
            producer_queue_seconds: metrics.float_gauge(
                "producer_queue_seconds",
                "Seconds a record waits in librdkafka's queue, 99th percentile.",
            ),
            producer_batch_records: metrics.float_gauge(
                "producer_batch_records",
                "Records in one batch to the broker, on average.",
            ),
            broker_round_trip_seconds: metrics.float_gauge(
                "broker_round_trip_seconds",
                "Seconds from a request to a broker to its answer, 99th percentile of the slowest broker.",
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
        for result in ["first", "repeated", "reused", "full"] {
            self.idempotency.with_label_values(&[result]);
        }
        for reason in model::Reason::LABELS.into_iter().chain([TOO_LARGE]) {
            self.records_rejected.with_label_values(&[reason]);
        }
    }

    /// Counts a request that was answered with `status`.
    pub fn request_answered(&self, status: &str) {
        self.requests.with_label_values(&[status]).inc();
    }

    /// Shows what librdkafka says of itself. Its windows are those of its statistics interval.
    pub(crate) fn show_statistics(&self, statistics: &Statistics) {
        let seconds = |micros: i64| Duration::from_micros(micros.unsigned_abs()).as_secs_f64();
        let slowest = |window: fn(&Broker) -> Option<&Window>| {
            let brokers = statistics.brokers.values().filter_map(window);
            seconds(brokers.map(|window| window.p99).max().unwrap_or(0))
        };
        self.producer_records
            .set(i64::try_from(statistics.msg_cnt).unwrap_or(i64::MAX));
        self.producer_queue_seconds
            .set(slowest(|broker| broker.int_latency.as_ref()));
        self.broker_round_trip_seconds
            .set(slowest(|broker| broker.rtt.as_ref()));
        let batches = statistics.topics.values().map(|topic| topic.batchcnt.avg);
        let records = u32::try_from(batches.max().unwrap_or(0)).unwrap_or(0);
        self.producer_batch_records.set(f64::from(records));
    }

    /// Counts records by outcome, if there are any.
    pub(crate) fn count_records(&self, outcome: &str, count: usize) {
        if count > 0 {
            self.records.with_label_values(&[outcome]).inc_by(count as u64);
        }
    }
}
