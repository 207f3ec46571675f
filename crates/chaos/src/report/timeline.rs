//! Rows written in each second of a round, from the streamers' metrics.

use crate::evidence::Evidence;
use crate::evidence::health::HealthSample;

pub(super) fn rows_per_second(evidence: &Evidence) -> Vec<f64> {
    let mut rows = Vec::new();
    for samples in evidence.health.values() {
        for pair in samples.windows(2) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a round takes minutes"
            )]
            let second = pair[1].at.max(0.0) as usize;
            rows.resize(rows.len().max(second + 1), 0.0);
            rows[second] += increase(&pair[0], &pair[1]);
        }
    }
    rows
}

/// The increase of the counter, which restarts with its process.
fn increase(before: &HealthSample, after: &HealthSample) -> f64 {
    let rows = |sample: &HealthSample| sample.metric("streamer_rows_total");
    match (rows(before), rows(after)) {
        (Some(before), Some(after)) if after >= before => after - before,
        (_, Some(after)) if before.responded() => after,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::service_id::ServiceId;

    #[test]
    fn rows_are_counted_across_a_restart() {
        let sample = |(at, rows)| HealthSample {
            at,
            ready: Some(true),
            metrics: BTreeMap::from([("streamer_rows_total".to_owned(), rows)]),
            ..HealthSample::default()
        };
        let samples = [(0.1, 10.0), (0.9, 30.0), (1.5, 5.0), (1.9, 8.0)].map(sample);
        let mut evidence = Evidence::default();
        evidence.health.insert(ServiceId::Streamer(1), samples.into());
        assert_eq!(rows_per_second(&evidence), [20.0, 8.0]);
    }
}
