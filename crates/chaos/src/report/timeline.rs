//! Throughput, lag and latency for each second of a round, from the services' metrics.

use std::collections::BTreeMap;

use super::round::TimelinePoint;
use crate::evidence::Evidence;
use crate::evidence::health::HealthSample;

pub(super) fn timeline(evidence: &Evidence) -> Vec<TimelinePoint> {
    let samples = evidence.health.values().flatten();
    let end = samples.map(|sample| sample.at).fold(0.0, f64::max);
    let second = |at: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a round takes minutes"
        )]
        let index = at.max(0.0) as usize;
        index
    };
    let mut points = vec![TimelinePoint::default(); second(end) + 1];
    // Sum and count of the latencies.
    let mut latencies = vec![(0.0, 0.0); points.len()];
    for (at, point) in (0_u32..).zip(&mut points) {
        point.at = f64::from(at);
    }
    for samples in evidence.health.values() {
        let mut lags: BTreeMap<usize, f64> = BTreeMap::new();
        for pair in samples.windows(2) {
            let index = second(pair[1].at);
            let increase = |name: &str| increase(&pair[0], &pair[1], name);
            points[index].records += increase("publisher_records_total");
            points[index].rows += increase("streamer_rows_total");
            latencies[index].0 += increase("streamer_accepted_to_row_seconds_sum");
            latencies[index].1 += increase("streamer_accepted_to_row_seconds_count");
            if let Some(lag) = pair[1].metric("streamer_lag_records") {
                lags.insert(index, lag);
            }
        }
        for (index, lag) in lags {
            points[index].lag += lag;
        }
    }
    for (point, (sum, count)) in points.iter_mut().zip(latencies) {
        let mean = if count > 0.0 { sum / count * 1_000.0 } else { 0.0 };
        point.latency_ms = (mean * 10.0_f64).round() / 10.0;
    }
    points
}

/// The increase of a counter, which restarts with its process.
fn increase(before: &HealthSample, after: &HealthSample, name: &str) -> f64 {
    match (before.metric(name), after.metric(name)) {
        (Some(before), Some(after)) if after >= before => after - before,
        (_, Some(after)) if before.responded() => after,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_id::ServiceId;

    fn sample(at: f64, rows: f64) -> HealthSample {
        HealthSample {
            at,
            ready: Some(true),
            metrics: BTreeMap::from([("streamer_rows_total".to_owned(), rows)]),
            ..HealthSample::default()
        }
    }

    #[test]
    fn timeline_continues_after_a_restart() {
        let mut evidence = Evidence::default();
        let samples = vec![
            sample(0.1, 10.0),
            sample(0.9, 30.0),
            sample(1.5, 5.0),
            sample(1.9, 8.0),
        ];
        evidence.health.insert(ServiceId::Streamer(1), samples);
        let rows: Vec<_> = timeline(&evidence).iter().map(|point| point.rows).collect();
        assert_eq!(rows, [20.0, 8.0]);
    }
}
