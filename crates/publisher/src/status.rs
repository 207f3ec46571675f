//! The publisher's sections of `GET /status`: rates, queue and acknowledgement latency.

use std::sync::Arc;

use serde_json::json;
use service::Status;

use crate::metrics::PublisherMetrics;

/// Adds the sections. Rates and latencies cover the last minute.
pub(crate) fn add_sections(status: &Status, metrics: &Arc<PublisherMetrics>) {
    let accepted = metrics.records.with_label_values(&["accepted"]);
    let records = status.last_minute(move || accepted.get().into());
    let durations = metrics.request_duration.clone();
    let requests = status.last_minute(move || durations.get_sample_count().into());
    status.section("rates", move || {
        let rates = json!({
            "records_per_second": records.per_second(),
            "requests_per_second": requests.per_second(),
        });
        async { rates }
    });
    let in_flight = metrics.records_in_flight.clone();
    status.section("queue", move || {
        let queue = json!({"records": in_flight.get()});
        async { queue }
    });
    let durations = metrics.delivery_duration.clone();
    let delivery = status.last_minute(move || (&*durations).into());
    status.section("acknowledgement", move || {
        let milliseconds = |quantile| delivery.quantile(quantile).map(|seconds| seconds * 1_000.0);
        let latency = json!({"p50_ms": milliseconds(0.5), "p99_ms": milliseconds(0.99)});
        async { latency }
    });
}

#[cfg(test)]
mod tests {
    use service::{Health, Metrics};

    use super::*;

    #[tokio::test]
    async fn sections_report_rates_queue_and_latency() {
        let metrics = Arc::new(PublisherMetrics::new(&Metrics::new("publisher")));
        let status = Status::new("publisher");
        add_sections(&status, &metrics);
        let document = status.document(&Health::default()).await;
        assert_eq!(document["rates"]["records_per_second"], 0.0);
        assert_eq!(
            document["acknowledgement"],
            json!({"p50_ms": null, "p99_ms": null})
        );
        metrics.count_records("accepted", 100);
        metrics.count_records("rejected", 7);
        metrics.request_duration.observe(0.01);
        metrics.records_in_flight.set(3);
        metrics.delivery_duration.observe(0.0015);
        let document = status.document(&Health::default()).await;
        // The first second counts as a whole one; a machine that pauses here makes it longer.
        let rate = |name: &str| document["rates"][name].as_f64().unwrap();
        assert!((0.1..=100.0).contains(&rate("records_per_second")), "{document}");
        assert!((0.001..=1.0).contains(&rate("requests_per_second")), "{document}");
        assert_eq!(document["queue"], json!({"records": 3}));
        let p99 = document["acknowledgement"]["p99_ms"].as_f64().unwrap();
        assert!((1.0..=2.0).contains(&p99), "{p99}");
    }
}
