//! Latency histograms of one kind, so that the quantiles of all benches compare: microseconds in, milliseconds out.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Creates a histogram from a microsecond to a minute, with three significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are the crate's own example's")
}

/// Records a latency. One above the maximum counts as the maximum.
pub fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
}

/// Returns a quantile in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "at most a minute in microseconds")]
pub fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_milliseconds() {
        let mut latencies = histogram();
        for latency in [1, 2, 3] {
            record(&mut latencies, Duration::from_millis(latency));
        }
        record(&mut latencies, Duration::from_secs(3_600));
        assert!((quantile_ms(&latencies, 0.5) - 2.0).abs() < 0.01);
        assert!((quantile_ms(&latencies, 1.0) - 60_000.0).abs() < 100.0);
    }
}
