//! Metrics count requests, records and the producer's statistics.

use crate::support::broker;
use crate::support::load::Load;
use crate::support::publisher_process::{Publisher, setup, status_and_body};
use crate::support::sample_users::users;
use crate::support::topic::Topic;

#[tokio::test]
async fn metrics_count_requests_and_records() {
    let topic = Topic::new(&broker::shared().await);
    let publisher = Publisher::start(&setup(&topic.brokers, &topic.name)).await;
    publisher.wait_until_ready().await;
    assert_eq!(publisher.metric("kafka_up").await, 1.0);
    for _ in 0..3 {
        assert_eq!(publisher.send(&users(50)).await.0, 200);
    }
    for _ in 0..2 {
        let request = publisher.post("application/json", "{}");
        assert_eq!(
            status_and_body(request.header("idempotency-key", "k")).await.0,
            422
        );
    }
    assert_eq!(status_and_body(publisher.post("text/plain", "x")).await.0, 415);
    for (series, value) in [
        ("requests_total{status=\"200\"}", 3.0),
        ("requests_total{status=\"422\"}", 2.0),
        ("requests_total{status=\"415\"}", 1.0),
        ("request_duration_seconds_count", 6.0),
        ("records_total{outcome=\"accepted\"}", 150.0),
        ("records_total{outcome=\"rejected\"}", 1.0),
        ("records_total{outcome=\"unknown\"}", 0.0),
        ("batch_records_count", 3.0),
        ("batch_records_sum", 150.0),
        ("delivery_duration_seconds_count", 3.0),
        ("idempotency_total{result=\"new\"}", 1.0),
        ("idempotency_total{result=\"replayed\"}", 1.0),
    ] {
        assert_eq!(publisher.metric(series).await, value, "{series}");
    }
    publisher.wait_until_idle().await;
    let status = publisher.client.get(format!("{}/status", publisher.admin));
    let (_, status) = status_and_body(status).await;
    for rate in ["records_per_second", "requests_per_second"] {
        assert!(status["rates"][rate].as_f64().unwrap() > 0.0, "{rate}: {status}");
    }
    assert_eq!(status["queue"], serde_json::json!({"records": 0}));
    let latency = &status["acknowledgement"];
    assert!(
        latency["p50_ms"].as_f64().unwrap() > 0.0 && latency["p50_ms"].as_f64() <= latency["p99_ms"].as_f64()
    );
}

#[tokio::test]
async fn producer_statistics_are_exported_under_load() {
    let topic = Topic::new(&broker::shared().await);
    let publisher =
        Publisher::start(&setup(&topic.brokers, &topic.name).set("kafka.statistics_interval", "500ms")).await;
    publisher.wait_until_ready().await;
    let mut load = Load::start(&publisher, 4);
    for (gauge, least, most) in [
        ("broker_round_trip_seconds", 1e-5, 10.0),
        ("producer_queue_seconds", 1e-4, 10.0),
        ("producer_batch_records", 1.0, 80.0),
        ("producer_records", 1.0, 80.0),
    ] {
        publisher
            .wait_until(gauge, async || {
                let value = publisher.metric(gauge).await;
                assert!(value <= most, "{gauge}: {value}");
                value >= least
            })
            .await;
    }
    load.stop().await;
    publisher
        .wait_until("idle", async || publisher.metric("producer_records").await == 0.0)
        .await;
}
