//! The streamer's sections of `GET /status`: rates, lag of each assigned partition, and dead letters.

use std::sync::{Arc, PoisonError};

use prometheus::IntGaugeVec;
use prometheus::core::Collector as _;
use serde::Serialize;
use serde_json::json;
use service::Status;

use crate::dead_letters::halted_partitions::HaltedPartitions;
use crate::dead_letters::log::DeadLetterLog;
use crate::metrics::StreamerMetrics;
use crate::pipeline::AssignedPartitions;

/// The section `lag`.
#[derive(Debug, PartialEq, Serialize)]
struct LagSection {
    /// `None` while the lag of an assigned partition is unknown, or none is assigned.
    total: Option<i64>,
    partitions: Vec<PartitionLag>,
}

#[derive(Debug, PartialEq, Serialize)]
struct PartitionLag {
    partition: i32,
    /// Records between the checkpoint and the end of the log.
    lag: Option<i64>,
    /// Why the partition is halted.
    halted: Option<String>,
}

/// Adds the sections that last as long as the process. Rates cover the last minute.
pub(super) fn add_sections(
    status: &Status,
    metrics: &Arc<StreamerMetrics>,
    dead_letters: &Arc<DeadLetterLog>,
) {
    let read = metrics.records.clone();
    let records = status.last_minute(move || read.get().into());
    let rows = metrics.rows.clone();
    let rows = status.last_minute(move || total(&rows).into());
    status.section("rates", move || {
        let rates = json!({"records_per_second": records.per_second(), "rows_per_second": rows.per_second()});
        async { rates }
    });
    let dead_letters = Arc::clone(dead_letters);
    status.section("dead_letters", move || {
        let section = dead_letters.section();
        async { section }
    });
}

/// Adds the section of the lag, or replaces the one of the pipeline before.
pub(super) fn add_lag(
    status: &Status,
    metrics: &Arc<StreamerMetrics>,
    assigned: &AssignedPartitions,
    halted: &Arc<HaltedPartitions>,
) {
    let (metrics, assigned, halted) = (Arc::clone(metrics), Arc::clone(assigned), Arc::clone(halted));
    status.section("lag", move || {
        let section = lag(&metrics.lag, &assigned, &halted);
        async { section }
    });
}

fn lag(lags: &IntGaugeVec, assigned: &AssignedPartitions, halted: &HaltedPartitions) -> LagSection {
    let assigned: Vec<i32> = {
        let assigned = assigned.lock().unwrap_or_else(PoisonError::into_inner);
        assigned.keys().copied().collect()
    };
    let known = reported(lags);
    let reported = |partition: i32| {
        let label = partition.to_string();
        known.iter().find(|(name, _)| *name == label).map(|(_, lag)| *lag)
    };
    let partitions: Vec<_> = assigned
        .into_iter()
        .map(|partition| PartitionLag {
            partition,
            lag: reported(partition),
            halted: halted.reason(partition),
        })
        .collect();
    let lags = partitions.iter().map(|partition| partition.lag);
    LagSection {
        total: lags.sum::<Option<i64>>().filter(|_| !partitions.is_empty()),
        partitions,
    }
}

/// The partitions whose lag was reported. Reading a gauge by its label would create it.
fn reported(lags: &IntGaugeVec) -> Vec<(String, i64)> {
    let families = lags.collect();
    let metrics = families.iter().flat_map(|family| family.get_metric());
    let reported = metrics.filter_map(|metric| {
        let label = metric.get_label().first()?.value().to_owned();
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the gauge holds a whole number of records"
        )]
        Some((label, metric.get_gauge().get_value() as i64))
    });
    reported.collect()
}

/// The sum of a counter over its labels.
fn total(counter: &prometheus::IntCounterVec) -> u64 {
    let families = counter.collect();
    let metrics = families.iter().flat_map(|family| family.get_metric());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let sum = metrics
        .map(|metric| metric.get_counter().get_value() as u64)
        .sum();
    sum
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prometheus::IntGauge;
    use service::{Health, Metrics};

    use super::*;
    use crate::dead_letters::halted_partitions::HaltReason;
    use crate::dead_letters::limits::ReachedLimit;

    fn none_halted() -> HaltedPartitions {
        HaltedPartitions::new(Health::default(), IntGauge::new("halted", "halted").unwrap())
    }

    #[test]
    fn lag_names_each_assigned_partition_and_why_it_is_halted() {
        let metrics = StreamerMetrics::new(&Metrics::new("streamer"));
        let (assigned, halted) = (AssignedPartitions::default(), none_halted());
        assert_eq!(
            lag(&metrics.lag, &assigned, &halted).total,
            None,
            "none is assigned"
        );
        assigned.lock().unwrap().extend([(0, Some(5)), (2, None)]);
        metrics.lag.with_label_values(&["0"]).set(7);
        let limit = ReachedLimit::Consecutive(9);
        halted.set(BTreeMap::from([(2, HaltReason::DeadLetters(limit))]));
        let section = lag(&metrics.lag, &assigned, &halted);
        assert_eq!(section.total, None, "the lag of partition 2 is unknown");
        assert_eq!(
            (section.partitions[0].lag, &section.partitions[0].halted),
            (Some(7), &None)
        );
        assert_eq!(
            (section.partitions[1].partition, section.partitions[1].lag),
            (2, None)
        );
        let reason = section.partitions[1].halted.as_deref().unwrap();
        assert!(reason.starts_with("9 consecutive dead letters"), "{reason}");
        metrics.lag.with_label_values(&["2"]).set(3);
        assert_eq!(lag(&metrics.lag, &assigned, &halted).total, Some(10));
    }

    #[tokio::test]
    async fn sections_report_rates_and_dead_letters() {
        let metrics = Arc::new(StreamerMetrics::new(&Metrics::new("streamer")));
        let (status, log) = (Status::new("streamer"), Arc::new(DeadLetterLog::default()));
        add_sections(&status, &metrics, &log);
        metrics.records.inc_by(10);
        metrics.rows.with_label_values(&["upsert"]).inc_by(8);
        metrics.rows.with_label_values(&["delete"]).inc();
        log.written(3, 17, "malformed");
        let document = status.document(&Health::default()).await;
        let rate = |name: &str| document["rates"][name].as_f64().unwrap();
        assert!(rate("records_per_second") > rate("rows_per_second"), "{document}");
        assert!(rate("rows_per_second") > 0.0, "{document}");
        assert_eq!(document["dead_letters"]["last_24h"], json!({"malformed": 1}));
        let newest = &document["dead_letters"]["newest"][0];
        assert_eq!((&newest["partition"], &newest["offset"]), (&json!(3), &json!(17)));
        assert!(newest["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
}
