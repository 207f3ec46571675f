//! What the demo measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cassandra_client::UserRow;
use crate::service::{Service, ServiceError};

/// What the ingester says of its run.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) outcome: String,
    pub(super) fetched: u64,
    pub(super) accepted: u64,
    pub(super) duplicate: u64,
}

/// The last line of the demo's output.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// Users in verified replies of the API.
    pub fetched: u64,
    /// Records that the publisher accepted.
    pub accepted: u64,
    /// Rows in the table: distinct ids.
    pub stored: u64,
    /// Records in the dead-letter topic.
    pub dead_lettered: u64,
    /// Users that came twice.
    pub duplicates: u64,
    /// Publisher → row, half of the records are faster; from a histogram, interpolated within its bucket.
    pub p50_ms: f64,
    /// Publisher → row, 99 of 100 records are faster.
    pub p99_ms: f64,
    /// Rows over the whole time from the ingester's start to the last row.
    pub rows_per_second: f64,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 rows")]
    pub(super) async fn of(
        summary: &Summary,
        rows: &BTreeMap<Uuid, UserRow>,
        streamer: &Service,
        seconds: f64,
    ) -> Result<Self, ServiceError> {
        let stored = rows.len() as u64;
        let latencies = Histogram::read(
            &streamer.ask("/metrics").await?.1,
            "streamer_accepted_to_row_seconds",
        );
        let dead_lettered = streamer
            .metric("streamer_dead_letters_total", "")
            .await?
            .unwrap_or(0.0);
        Ok(Self {
            fetched: summary.fetched,
            accepted: summary.accepted,
            stored,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a counter"
            )]
            dead_lettered: dead_lettered as u64,
            duplicates: summary.duplicate,
            p50_ms: tenths(latencies.quantile(0.50) * 1_000.0),
            p99_ms: tenths(latencies.quantile(0.99) * 1_000.0),
            rows_per_second: tenths(stored as f64 / seconds),
        })
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// A Prometheus histogram: upper bounds with the number of observations at or below each.
pub struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// Reads the histogram `name`, without labels, from the text format.
    pub fn read(text: &str, name: &str) -> Self {
        let bucket = format!("{name}_bucket{{le=\"");
        let buckets = text.lines().filter_map(|line| {
            let (bound, count) = line.strip_prefix(&bucket)?.split_once("\"} ")?;
            let bound = if bound == "+Inf" {
                f64::INFINITY
            } else {
                bound.parse().ok()?
            };
            Some((bound, count.parse().ok()?))
        });
        Self(buckets.collect())
    }

    /// What was observed after `before` was read.
    pub fn since(&self, before: &Self) -> Self {
        let earlier = |index: usize| before.0.get(index).map_or(0.0, |(_, count)| *count);
        Self(
            self.0
                .iter()
                .enumerate()
                .map(|(index, (bound, count))| (*bound, count - earlier(index)))
                .collect(),
        )
    }

    /// The value below which `share` of the observations lie, interpolated; the last finite bound beyond that.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = self.0.last().map_or(0.0, |(_, all)| all * share);
        let mut below = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= wanted && wanted > 0.0 {
                let width = if bound.is_finite() {
                    bound - below.0
                } else {
                    return below.0;
                };
                let within = (wanted - below.1) / (count - below.1).max(f64::MIN_POSITIVE);
                return below.0 + width * within;
            }
            below = (*bound, *count);
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "x_bucket{le=\"0.1\"} 0\nx_bucket{le=\"0.2\"} 50\nx_bucket{le=\"0.4\"} 100\nx_bucket{le=\"+Inf\"} 100\n";

    #[test]
    fn a_quantile_is_interpolated_within_its_bucket() {
        let histogram = Histogram::read(TEXT, "x");
        assert!((histogram.quantile(0.5) - 0.2).abs() < 1e-9);
        assert!((histogram.quantile(0.75) - 0.3).abs() < 1e-9);
        assert!((Histogram::read("", "x").quantile(0.5)).abs() < 1e-9);
    }
}
