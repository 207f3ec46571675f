//! The publisher's metrics. They are recorded once per request or batch, never per record.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};
use rdkafka::Statistics;
use rdkafka::statistics::{Broker, Window};
use service::Metrics;
use service::metrics::TracedHistogram;

/// All metrics; each field's doc is its help text. Shared by `Arc` and not `Clone`: a clone for each request would
/// update the reference count of every metric.
pub struct PublisherMetrics {
    /// Requests by response status; `disconnected` if the caller did not wait.
    pub(crate) requests: IntCounterVec,
    /// Those with the status 200, looked up once.
    requests_ok: OnceLock<IntCounter>,
    /// Seconds from the header of a request to its response.
    pub(crate) request_duration: TracedHistogram,
    /// Requests in flight.
    pub(crate) requests_in_flight: IntGauge,
    /// Open connections.
    pub(crate) connections: IntGauge,
    /// Records by outcome: accepted, rejected (invalid), refused (by Kafka), unknown.
    pub(crate) records: IntCounterVec,
    /// The accepted ones, looked up once.
    records_accepted: OnceLock<IntCounter>,
    /// Invalid records by the violated rule.
    pub(crate) records_rejected: IntCounterVec,
    /// Records that Kafka has not acknowledged yet.
    pub(crate) records_in_flight: IntGauge,
    /// Bytes of requests in flight, the memory cost of their records, and unread responses.
    pub(crate) bytes_in_flight: IntGauge,
    /// Records of one request sent to Kafka.
    pub(crate) batch_records: Histogram,
    /// Seconds from queueing the first record of a request to its last acknowledgement.
    pub(crate) delivery_duration: TracedHistogram,
    /// Requests with an idempotency key: new, replayed, conflict (another body), full (rejected).
    pub(crate) idempotency: IntCounterVec,
    /// Records in librdkafka's queue and in flight to the brokers.
    pub(crate) producer_records: IntGauge,
    /// Seconds that a record waits in librdkafka's queue, 99th percentile.
    pub(crate) producer_queue_seconds: Gauge,
    /// Average number of records in a batch to a broker.
    pub(crate) producer_batch_records: Gauge,
    /// Seconds from a request to a broker to its response, 99th percentile of the slowest broker.
    pub(crate) broker_round_trip_seconds: Gauge,
    /// 1 if Kafka responds and the topic is writable, else 0.
    pub(crate) kafka_up: IntGauge,
}

/// The reason label of a record above `limits.max_record`. The other reasons are the model's.
pub(crate) const TOO_LARGE: &str = "too_large";

const SECONDS: [f64; 14] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];
const RECORDS: [f64; 9] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0];

impl PublisherMetrics {
    /// Creates and registers the metrics. Call it once for a registry.
    pub fn new(metrics: &Metrics) -> Self {
        let created = Self {
            requests: metrics.counter_vec(
                "requests_total",
                "Requests by response status; disconnected if the caller did not wait.",
                &["status"],
            ),
            requests_ok: OnceLock::new(),
            request_duration: metrics.traced_histogram(
                "request_duration_seconds",
                "Seconds from the header of a request to its response.",
                &SECONDS,
            ),
            requests_in_flight: metrics.gauge("requests_in_flight", "Requests in flight."),
            connections: metrics.gauge("connections", "Open connections."),
            records: metrics.counter_vec(
                "records_total",
                "Records by outcome: accepted, rejected (invalid), refused (by Kafka), unknown.",
                &["outcome"],
            ),
            records_accepted: OnceLock::new(),
            records_rejected: metrics.counter_vec(
                "records_rejected_total",
                "Invalid records by the violated rule.",
                &["reason"],
            ),
            records_in_flight: metrics.gauge(
                "records_in_flight",
                "Records that Kafka has not acknowledged yet.",
            ),
            bytes_in_flight: metrics.gauge(
                "bytes_in_flight",
                "Bytes of requests in flight, the memory cost of their records, and unread responses.",
            ),
            batch_records: metrics.histogram(
                "batch_records",
                "Records of one request sent to Kafka.",
                &RECORDS,
            ),
            delivery_duration: metrics.traced_histogram(
                "delivery_duration_seconds",
                "Seconds from queueing the first record of a request to its last acknowledgement.",
                &SECONDS,
            ),
            idempotency: metrics.counter_vec(
                "idempotency_total",
                "Requests with an idempotency key: new, replayed, conflict (another body), full (rejected).",
                &["result"],
            ),
            producer_records: metrics.gauge(
                "producer_records",
                "Records in librdkafka's queue and in flight to the brokers.",
            ),
            producer_queue_seconds: metrics.float_gauge(
                "producer_queue_seconds",
                "Seconds that a record waits in librdkafka's queue, 99th percentile.",
            ),
            producer_batch_records: metrics.float_gauge(
                "producer_batch_records",
                "Average number of records in a batch to a broker.",
            ),
            broker_round_trip_seconds: metrics.float_gauge(
                "broker_round_trip_seconds",
                "Seconds from a request to a broker to its response, 99th percentile of the slowest broker.",
            ),
            kafka_up: metrics.gauge(
                "kafka_up",
                "1 if Kafka responds and the topic is writable, else 0.",
            ),
        };
        created.initialize_labels();
        created
    }

    /// Creates every series with zero, because an alert can't use a series that does not exist.
    fn initialize_labels(&self) {
        for outcome in ["accepted", "rejected", "refused", "unknown"] {
            self.records.with_label_values(&[outcome]);
        }
        for result in ["new", "replayed", "conflict", "full"] {
            self.idempotency.with_label_values(&[result]);
        }
        for reason in model::Reason::LABELS.into_iter().chain([TOO_LARGE]) {
            self.records_rejected.with_label_values(&[reason]);
        }
    }

    /// Counts a request by the status of its response.
    pub fn count_request(&self, status: &str) {
        let lookup = || self.requests.with_label_values(&[status]);
        if status == "200" {
            self.requests_ok.get_or_init(lookup).inc();
        } else {
            lookup().inc();
        }
    }

    /// Records librdkafka's statistics, which cover one statistics interval.
    pub(crate) fn record_statistics(&self, statistics: &Statistics) {
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
        let lookup = || self.records.with_label_values(&[outcome]);
        match (count as u64, outcome) {
            (0, _) => {}
            (count, "accepted") => self.records_accepted.get_or_init(lookup).inc_by(count),
            (count, _) => lookup().inc_by(count),
        }
    }
}
