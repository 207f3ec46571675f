//! Everything the streamer counts.

use model::Reason;
use prometheus::core::Collector as _;
use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use service::Metrics;

/// The streamer's metrics, `streamer_…`.
pub struct StreamerMetrics {
    /// `records_total`
    pub records: IntCounter,
    /// `rows_total{change}`
    pub rows: IntCounterVec,
    /// `expired_total`
    pub expired: IntCounter,
    /// `dead_letters_total{reason}`
    pub dead_letters: IntCounterVec,
    /// `misplaced_total{kind}`
    pub misplaced: IntCounterVec,
    /// `capped_timestamps_total`
    pub capped_timestamps: IntCounter,
    /// `batches_total{trigger}`
    pub batches: IntCounterVec,
    /// `batch_rows`
    pub batch_rows: Histogram,
    /// `batch_bytes`
    pub batch_bytes: Histogram,
    /// `write_seconds`
    pub write_seconds: Histogram,
    /// `retries_total{reason}`
    pub retries: IntCounterVec,
    /// `window_statements`
    pub window: IntGauge,
    /// `kafka_to_row_seconds`
    pub kafka_to_row: Histogram,
    /// `event_to_row_seconds`
    pub event_to_row: Histogram,
    /// `checkpoints_total{outcome}`
    pub checkpoints: IntCounterVec,
    /// `checkpoint_offset{partition}`
    pub checkpoint_offset: IntGaugeVec,
    /// `end_offset{partition}`
    pub end_offset: IntGaugeVec,
    /// `lag_records{partition}`
    pub lag: IntGaugeVec,
    /// `checkpoint_age_seconds{partition}`
    pub checkpoint_age: GaugeVec,
    /// `poll_gap_seconds`
    pub poll_gap: Gauge,
    /// `rebalances_total{kind}`
    pub rebalances: IntCounterVec,
    /// `assigned_partitions`
    pub assigned: IntGauge,
    /// `stopped_partitions`
    pub stopped: IntGauge,
    /// `restarts_total{reason}`
    pub restarts: IntCounterVec,
}

/// The alert StreamerNotFresh asks for more than 60 s, so there is an edge at it and one just above.
const SECONDS: [f64; 22] = [
    0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0,
    8.0, 30.0, 60.0, 120.0, 300.0,
];
const ROWS: [f64; 9] = [1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];
const BYTES: [f64; 7] = [1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6];
const OUTCOMES: [&str; 2] = ["written", "failed"];
/// Why a record that is a user's, or a null value, is refused; the others are the model's.
const REFUSALS: [&str; 3] = ["tombstone", "tombstone_without_id", "refused_by_cassandra"];

impl StreamerMetrics {
    /// How many attempts failed so far, to write rows, dead letters or checkpoints.
    pub fn failures(&self) -> u64 {
        let retries = self.retries.collect();
        let retries = retries.iter().flat_map(|family| family.get_metric());
        let retries: f64 = retries.map(|metric| metric.get_counter().get_value()).sum();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let retries = retries as u64;
        retries + self.checkpoints.with_label_values(&["failed"]).get()
    }

    /// Registers them all. What an alert compares with nothing is there from the start, at 0.
    pub fn new(metrics: &Metrics) -> Self {
        let created = Self::registered(metrics);
        for outcome in OUTCOMES {
            created.checkpoints.with_label_values(&[outcome]);
        }
        for reason in Reason::LABELS.into_iter().chain(REFUSALS) {
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
                "Records past the rows' time to live, written as deletions.",
            ),
            dead_letters: metrics.counter_vec(
                "dead_letters_total",
                "Records written to the dead-letter topic.",
                &["reason"],
            ),
            misplaced: metrics.counter_vec(
                "partition_mismatch_total",
                "Records stored although their key is not their id, or they lie in a foreign partition.",
                &["kind"],
            ),
            capped_timestamps: metrics.counter(
                "capped_timestamps_total",
                "Records whose timestamp is more than an hour ahead of the clock.",
            ),
            batches: metrics.counter_vec("batches_total", "Micro-batches flushed.", &["trigger"]),
            batch_rows: metrics.histogram("batch_rows", "Records of a micro-batch.", &ROWS),
            batch_bytes: metrics.histogram("batch_bytes", "Bytes of a micro-batch.", &BYTES),
            write_seconds: metrics.histogram(
                "write_duration_seconds",
                "From a micro-batch's flush until all of it is durable.",
                &SECONDS,
            ),
            retries: metrics.counter_vec("retries_total", "Statements that failed.", &["reason"]),
            window: metrics.gauge("in_flight_limit", "The most statements in flight now."),
            kafka_to_row: metrics.histogram(
                "kafka_to_row_seconds",
                "From a record's Kafka timestamp until its row is durable.",
                &SECONDS,
            ),
            event_to_row: metrics.histogram(
                "accepted_to_row_seconds",
                "From the publisher's taking a record until its row is durable.",
                &SECONDS,
            ),
            checkpoints: metrics.counter_vec("checkpoints_total", "Checkpoint writes.", &["outcome"]),
            checkpoint_offset: metrics.gauge_vec(
                "checkpoint_offset",
                "The next offset according to the checkpoint.",
                &["partition"],
            ),
            end_offset: metrics.gauge_vec("end_offset", "The end of the partition's log.", &["partition"]),
            lag: metrics.gauge_vec(
                "lag_records",
                "Records between the checkpoint and the end of the log.",
                &["partition"],
            ),
            checkpoint_age: metrics.float_gauge_vec(
                "checkpoint_age_seconds",
                "Since the checkpoint moved, or was the end of the log.",
                &["partition"],
            ),
            poll_gap: metrics.float_gauge(
                "poll_gap_seconds",
                "The longest time between two polls of the consumer since the last look.",
            ),
            rebalances: metrics.counter_vec("rebalances_total", "Changes of the assignment.", &["kind"]),
            assigned: metrics.gauge("assigned_partitions", "Partitions that this member holds."),
            stopped: metrics.gauge(
                "halted_partitions",
                "Partitions that stand still because of their dead letters.",
            ),
            restarts: metrics.counter_vec(
                "restarts_total",
                "Fresh starts inside the process after the topic changed under it.",
                &["reason"],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_alerts_speak_of_is_there_before_anything_has_happened() {
        let metrics = Metrics::new("streamer");
        StreamerMetrics::new(&metrics);
        let text = metrics.render();
        for series in [
            r#"streamer_checkpoints_total{outcome="written"} 0"#,
            r#"streamer_checkpoints_total{outcome="failed"} 0"#,
            r#"streamer_dead_letters_total{reason="malformed"} 0"#,
            r#"streamer_dead_letters_total{reason="refused_by_cassandra"} 0"#,
            r#"streamer_dead_letters_total{reason="tombstone_without_id"} 0"#,
            r#"streamer_accepted_to_row_seconds_bucket{le="60"} 0"#,
            "streamer_assigned_partitions 0",
        ] {
            assert!(text.contains(series), "{series} in {text}");
        }
    }
}
