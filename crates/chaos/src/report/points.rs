//! The lines of a timeline, second by second, from what processes told of themselves.

use std::collections::BTreeMap;

use super::Point;
use crate::evidence::{Evidence, Look};

/// All of them.
pub(super) fn points(evidence: &Evidence) -> Vec<Point> {
    let end = evidence
        .looks
        .values()
        .flatten()
        .map(|look| look.at)
        .fold(0.0, f64::max);
    let mut points: Vec<Point> = Vec::new();
    let mut waits: Vec<(f64, f64)> = Vec::new();
    let second = |at: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a round has few seconds"
        )]
        let index = at.max(0.0) as usize;
        index
    };
    points.resize(second(end) + 1, Point::default());
    waits.resize(points.len(), (0.0, 0.0));
    for (index, point) in points.iter_mut().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a round has few seconds")]
        let at = index as f64;
        point.at = at;
    }
    for looks in evidence.looks.values() {
        let mut lags: BTreeMap<usize, f64> = BTreeMap::new();
        for pair in looks.windows(2) {
            let index = second(pair[1].at);
            let grown = |name: &str| grown(&pair[0], &pair[1], name);
            points[index].records += grown("publisher_records_total");
            points[index].rows += grown("streamer_rows_total");
            waits[index].0 += grown("streamer_accepted_to_row_seconds_sum");
            waits[index].1 += grown("streamer_accepted_to_row_seconds_count");
            if let Some(lag) = pair[1].metrics.get("streamer_lag_records") {
                lags.insert(index, *lag);
            }
        }
        for (index, lag) in lags {
            points[index].lag += lag;
        }
    }
    for (point, (sum, count)) in points.iter_mut().zip(waits) {
        let mean = if count > 0.0 { sum / count * 1_000.0 } else { 0.0 };
        point.latency_ms = (mean * 10.0).round() / 10.0;
    }
    points
}

/// How much a counter has grown; a new process begins anew.
fn grown(before: &Look, after: &Look, name: &str) -> f64 {
    let value = |look: &Look| look.metrics.get(name).copied();
    match (value(before), value(after)) {
        (Some(before), Some(after)) if after >= before => after - before,
        (_, Some(after)) if before.answered() => after,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Who;

    fn look(at: f64, rows: f64) -> Look {
        Look {
            at,
            ready: Some(true),
            metrics: BTreeMap::from([("streamer_rows_total".to_owned(), rows)]),
            ..Look::default()
        }
    }

    #[test]
    fn a_line_goes_on_where_a_process_began_anew() {
        let mut evidence = Evidence::default();
        let looks = vec![look(0.1, 10.0), look(0.9, 30.0), look(1.5, 5.0), look(1.9, 8.0)];
        evidence.looks.insert(Who::Streamer(1), looks);
        let rows: Vec<_> = points(&evidence).iter().map(|point| point.rows).collect();
        assert_eq!(rows, [20.0, 8.0]);
    }
}
