//! The figures of the demo.

use serde::Serialize;

use super::conservation::RunVerdict;
use super::progress::counter;
use super::traffic::TrafficSummary;
use crate::service::{PrometheusHistogram, Service, ServiceError};

/// The last line of the demo's output.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// The record type.
    pub record: String,
    /// Users in valid responses of the API, or generated records.
    pub fetched: u64,
    /// Users that can't be mapped to a record.
    pub invalid: u64,
    /// Records that the publisher accepted.
    pub accepted: u64,
    /// Rows in the table.
    pub stored: u64,
    /// Records in the dead-letter topic.
    pub dead_lettered: u64,
    /// Users that the API returned twice.
    pub duplicates: u64,
    /// Median latency from the publisher to the row, interpolated within a bucket of a histogram.
    pub p50_ms: f64,
    /// The 99th percentile of that latency.
    pub p99_ms: f64,
    /// Whether the streamer's ledger has each accepted record of the run, and no other.
    pub conserved: bool,
    /// Median latency from the API's reply to the row; none before the ledger has it.
    pub end_to_end_p50_ms: Option<f64>,
    /// The 99th percentile of that latency.
    pub end_to_end_p99_ms: Option<f64>,
    /// Rows per second from the ingester's start to the last row.
    pub rows_per_second: f64,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 rows")]
    pub(super) async fn new(
        record: &str,
        summary: &TrafficSummary,
        verdict: &RunVerdict,
        stored: u64,
        streamer: &Service,
        seconds: f64,
    ) -> Result<Self, ServiceError> {
        let metrics = streamer.get("/metrics").await?.1;
        let latencies = PrometheusHistogram::read(&metrics, "streamer_accepted_to_row_seconds");
        Ok(Self {
            record: record.to_owned(),
            fetched: summary.fetched,
            invalid: summary.invalid,
            accepted: summary.accepted,
            stored,
            dead_lettered: counter(streamer, "streamer_dead_letters_total").await?,
            duplicates: summary.duplicate,
            p50_ms: tenths(latencies.quantile(0.50) * 1_000.0),
            p99_ms: tenths(latencies.quantile(0.99) * 1_000.0),
            conserved: verdict.is_conserved(),
            end_to_end_p50_ms: verdict.end_to_end().map(|latency| tenths(latency.p50_ms)),
            end_to_end_p99_ms: verdict.end_to_end().map(|latency| tenths(latency.p99_ms)),
            rows_per_second: tenths(stored as f64 / seconds),
        })
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
