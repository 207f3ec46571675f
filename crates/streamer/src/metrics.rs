//! The metrics of the service.

use model::Reason;
use prometheus::core::Collector as _;
use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use service::Metrics;
use service::metrics::TracedHistogram;

/// The metrics `streamer_…`.
pub struct StreamerMetrics {
    /// `records_total`
    pub records: IntCounter,
    /// `rows_total{change}`
    pub rows: IntCounterVec,
    /// `expired_total`
    pub expired: IntCounter,
    /// `dead_letters_total{reason}`
    pub dead_letters: IntCounterVec,
    /// `partition_mismatch_total{kind}`
    pub mismatch: IntCounterVec,
    /// `unknown_fields_total`
    pub unknown_fields: IntCounter,
    /// `capped_timestamps_total`
    pub capped_timestamps: IntCounter,
    /// `batches_total{trigger}`
    pub batches: IntCounterVec,
    /// `batch_rows`
    pub batch_rows: Histogram,
    /// `batch_bytes`
    pub batch_bytes: Histogram,
    /// `write_duration_seconds`
    pub write_duration: TracedHistogram,
    /// `write_attempts`
    pub write_attempts: Histogram,
    /// `retries_total{reason}`
    pub retries: IntCounterVec,
    /// `in_flight_limit`
    pub in_flight_limit: IntGauge,
    /// `kafka_to_row_seconds`
    pub kafka_to_row: Histogram,
    /// `accepted_to_row_seconds`
    pub accepted_to_row: Histogram,
    /// `end_to_end_seconds`
    pub end_to_end: TracedHistogram,
    /// `records_without_run_total`
    pub without_run: IntCounter,
    /// `invalid_fetched_at_total`
    pub invalid_fetched_at: IntCounter,
    /// `checkpoints_total{outcome}`
    pub checkpoints: IntCounterVec,
    /// `checkpoint_offset{partition}`
    pub checkpoint_offset: IntGaugeVec,
    /// `end_offset{partition}`
    pub end_offset: IntGaugeVec,
    /// `lag_records{partition}`
    pub lag: IntGaugeVec,
    /// `open_transaction_records{partition}`
    pub open_transaction: IntGaugeVec,
    /// `checkpoint_age_seconds{partition}`
    pub checkpoint_age: GaugeVec,
    /// `poll_gap_seconds`
    pub poll_gap: Gauge,
    /// `rebalances_total{kind}`
    pub rebalances: IntCounterVec,
    /// `assigned_partitions`
    pub assigned: IntGauge,
    /// `halted_partitions`
    pub halted: IntGauge,
    /// `restarts_total{reason}`
    pub restarts: IntCounterVec,
}

/// The alert StreamerLatencyHigh fires above 60 s, so there is a bucket at 60 and one above. The objective of freshness is
/// 5 s, and the alerts on it read that bucket.
const SECONDS: [f64; 23] = [
    0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0,
    5.0, 8.0, 30.0, 60.0, 120.0, 300.0,
];
const ROWS: [f64; 9] = [1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];
const BYTES: [f64; 7] = [1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6];
const ATTEMPTS: [f64; 6] = [1.0, 2.0, 3.0, 4.0, 8.0, 32.0];
const OUTCOMES: [&str; 2] = ["written", "failed"];
/// The reasons of rejections that the model does not know.
const REJECTION_REASONS: [&str; 3] = ["tombstone", "tombstone_without_id", "refused_by_cassandra"];

impl StreamerMetrics {
    /// The number of failed attempts to write rows, dead letters or checkpoints.
    pub fn failures(&self) -> u64 {
        let retries = self.retries.collect();
        let retries = retries.iter().flat_map(|family| family.get_metric());
        let retries: f64 = retries.map(|metric| metric.get_counter().get_value()).sum();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let retries = retries as u64;
        retries + self.checkpoints.with_label_values(&["failed"]).get()
    }

    /// Registers all metrics. Counters that alerts use start at 0.
    pub fn new(metrics: &Metrics) -> Self {
        let created = Self::registered(metrics);
        for outcome in OUTCOMES {
            created.checkpoints.with_label_values(&[outcome]);
        }
        for reason in Reason::LABELS.into_iter().chain(REJECTION_REASONS) {
            created.dead_letters.with_label_values(&[reason]);
        }
        created
    }

    fn registered(metrics: &Metrics) -> Self {
        Self {
            records: metrics.counter("records_total", "Records read from the topic."),
            rows: metrics.counter_vec("rows_total", "Rows acknowledged by Cassandra.", &["change"]),
            expired: metrics.counter(
                "expired_total",
                "Records past cassandra.row_ttl, written as deletions.",
            ),
            dead_letters: metrics.counter_vec(
                "dead_letters_total",
                "Records written to the dead-letter topic.",
                &["reason"],
            ),
            mismatch: metrics.counter_vec(
                "partition_mismatch_total",
                "Records written although their Kafka key is not their key, or their partition does not match it.",
                &["kind"],
            ),
            unknown_fields: metrics.counter(
                "unknown_fields_total",
                "Records of a newer contract, stored without the fields that this one lacks.",
            ),
            capped_timestamps: metrics.counter(
                "capped_timestamps_total",
                "Records whose timestamp is more than an hour ahead of the clock.",
            ),
            batches: metrics.counter_vec("batches_total", "Micro-batches flushed.", &["trigger"]),
            batch_rows: metrics.histogram("batch_rows", "Records of a micro-batch.", &ROWS),
            batch_bytes: metrics.histogram("batch_bytes", "Bytes of a micro-batch.", &BYTES),
            write_duration: metrics.traced_histogram(
                "write_duration_seconds",
                "Time from the flush of a micro-batch until it is durable.",
                &SECONDS,
            ),
            write_attempts: metrics.histogram(
                "write_attempts",
                "Times that rows of a micro-batch were sent until all were acknowledged.",
                &ATTEMPTS,
            ),
            retries: metrics.counter_vec("retries_total", "Statements that failed.", &["reason"]),
            in_flight_limit: metrics.gauge("in_flight_limit", "The current limit of statements in flight to a node, the lowest of all."),
            kafka_to_row: metrics.histogram(
                "kafka_to_row_seconds",
                "Time from a record's Kafka timestamp until its row is durable.",
                &SECONDS,
            ),
            accepted_to_row: metrics.histogram(
                "accepted_to_row_seconds",
                "Time from the publisher's acceptance of a record until its row is durable.",
                &SECONDS,
            ),
            end_to_end: metrics.traced_histogram(
                "end_to_end_seconds",
                "Time from the fetch of a record, by its header, until its row is durable; without replayed records.",
                &SECONDS,
            ),
            without_run: metrics.counter(
                "records_without_run_total",
                "Records without a valid run-id and run-seq, which are not in the run ledger.",
            ),
            invalid_fetched_at: metrics.counter(
                "invalid_fetched_at_total",
                "Records whose fetched-at-us is invalid or too far from their acceptance, and is ignored.",
            ),
            checkpoints: metrics.counter_vec("checkpoints_total", "Checkpoint writes.", &["outcome"]),
            checkpoint_offset: metrics.gauge_vec(
                "checkpoint_offset",
                "The next offset of the checkpoint.",
                &["partition"],
            ),
            end_offset: metrics.gauge_vec("end_offset", "The end offset of the partition.", &["partition"]),
            lag: metrics.gauge_vec(
                "lag_records",
                "Records between the checkpoint and the end of the log.",
                &["partition"],
            ),
            open_transaction: metrics.gauge_vec(
                "open_transaction_records",
                "Records from the first open transaction on, which can't be read yet.",
                &["partition"],
            ),
            checkpoint_age: metrics.float_gauge_vec(
                "checkpoint_age_seconds",
                "Time since the checkpoint moved, or was at the end of the log.",
                &["partition"],
            ),
            poll_gap: metrics.float_gauge(
                "poll_gap_seconds",
                "The longest time between two polls of the consumer since the last probe.",
            ),
            rebalances: metrics.counter_vec("rebalances_total", "Rebalances by kind.", &["kind"]),
            assigned: metrics.gauge("assigned_partitions", "Partitions assigned to this member."),
            halted: metrics.gauge(
                "halted_partitions",
                "Partitions halted because of their dead letters.",
            ),
            restarts: metrics.counter_vec(
                "restarts_total",
                "Restarts of the pipeline inside the process after the topic changed.",
                &["reason"],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_that_alerts_use_exist_from_the_start() {
        let metrics = Metrics::new("streamer");
        StreamerMetrics::new(&metrics);
        let text = metrics.render();
        for series in [
            r#"streamer_checkpoints_total{outcome="written"} 0"#,
            r#"streamer_checkpoints_total{outcome="failed"} 0"#,
            r#"streamer_dead_letters_total{reason="malformed"} 0"#,
            r#"streamer_dead_letters_total{reason="refused_by_cassandra"} 0"#,
            r#"streamer_dead_letters_total{reason="tombstone_without_id"} 0"#,
            r#"streamer_accepted_to_row_seconds_bucket{le="5"} 0"#,
            r#"streamer_accepted_to_row_seconds_bucket{le="60"} 0"#,
            "streamer_assigned_partitions 0",
            "streamer_unknown_fields_total 0",
        ] {
            assert!(text.contains(series), "{series} in {text}");
        }
    }
}
