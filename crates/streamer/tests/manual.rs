//! The README's tables say what the code does.

use service::Metrics;
use streamer::Settings;
use streamer::metrics::StreamerMetrics;
use testbed::manual;

const README: &str = include_str!("../README.md");

#[test]
fn every_key_is_in_the_manual_with_its_default() {
    let keys = manual::keys(&serde_json::to_value(Settings::default()).unwrap());
    assert_eq!(manual::table(README, "Configuration"), keys);
}

#[test]
fn every_metric_is_in_the_manual() {
    let metrics = Metrics::new("streamer");
    let created = StreamerMetrics::new(&metrics);
    for counters in [
        &created.rows,
        &created.dead_letters,
        &created.misplaced,
        &created.batches,
        &created.retries,
        &created.checkpoints,
        &created.rebalances,
        &created.restarts,
    ] {
        counters.with_label_values(&["any"]);
    }
    created.checkpoint_age.with_label_values(&["0"]);
    for gauges in [&created.checkpoint_offset, &created.end_offset, &created.lag] {
        gauges.with_label_values(&["0"]);
    }
    let told: Vec<_> = manual::table(README, "Metrics")
        .into_keys()
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect();
    assert_eq!(told, manual::metrics(&metrics.render(), "streamer"));
}
