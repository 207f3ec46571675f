//! Stall detection: `/healthz` fails if a consumer gets no records although every server responds.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use reqwest::StatusCode;

use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users};
use crate::support::traffic::metric;

async fn delete_topic(env: &TestEnv, name: &str) {
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", env.bootstrap())
        .create()
        .unwrap();
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
    for result in admin.delete_topics(&[name], &options).await.unwrap() {
        result.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_fetches_fail_liveness_until_records_arrive() {
    let env = TestEnv::new("stall", 1).await;
    let client = format!("client-{}", env.topic);
    let options = env
        .options()
        .set("kafka.properties.client_id", &client)
        .set("kafka.probe_interval", "500ms")
        .set("checkpoint.stall_timeout", "3s");
    let streamer = env.start(&options).await;
    env.write(&new_users(10)).await;
    env.wait_until_caught_up().await;
    // With this quota every fetch returns nothing. Other requests succeed.
    let entity = ("clients", &*client);
    env.alter_config(entity, &["--add-config", "consumer_byte_rate=1"])
        .await;
    env.write(&new_users(2_000)).await;
    eventually("liveness fails", async || {
        let (status, body) = streamer
            .get("/healthz")
            .await
            .map_err(|error| error.to_string())?;
        let reported = body.contains("progress: partition 0 has unread records and no new checkpoint");
        if status == StatusCode::SERVICE_UNAVAILABLE && reported {
            Ok(())
        } else {
            Err(format!("{status} {body}"))
        }
    })
    .await;
    let (status, body) = streamer.get("/readyz").await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    env.alter_config(entity, &["--delete-config", "consumer_byte_rate"])
        .await;
    env.wait_until_caught_up().await;
    eventually("liveness recovers", async || {
        match streamer.get("/healthz").await {
            Ok((StatusCode::OK, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Kafka delays each response of a consumer above its quota, by up to its window of 11 s. Records arrive all the same.
#[tokio::test(flavor = "multi_thread")]
async fn consumer_quota_delays_records_and_is_no_stall() {
    let env = TestEnv::new("quota", 6).await;
    let client = format!("client-{}", env.topic);
    env.alter_config(
        ("clients", &client),
        &["--add-config", "consumer_byte_rate=10000"],
    )
    .await;
    env.write(&new_users(12_000)).await;
    let options = env
        .options()
        .set("kafka.properties.client_id", &client)
        .set("kafka.probe_interval", "500ms");
    let streamer = env.start(&options).await;
    let mut grown = 0;
    let mut written = 0.0;
    let until = Instant::now() + DEADLINE;
    while grown < 3 {
        assert!(
            Instant::now() < until,
            "rows were written {grown} times, {written} rows"
        );
        let (status, body) = streamer.get("/healthz").await.unwrap();
        assert_eq!(status, StatusCode::OK, "{body}");
        let rows = metric(&streamer, "streamer_rows_total", "").await;
        if rows > written {
            (grown, written) = (grown + 1, rows);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(written < 12_000.0, "the quota delayed nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_dead_letter_topic_fails_readiness_only() {
    let env = TestEnv::new("noletters", 1).await;
    let options = env
        .options()
        .set("kafka.probe_interval", "500ms")
        // Longer than one attempt to write a dead letter.
        .set("checkpoint.stall_timeout", "12s");
    let streamer = env.start(&options).await;
    env.write(&new_users(3)).await;
    env.wait_until_caught_up().await;
    delete_topic(&env, &env.dead_letter_topic()).await;
    let garbage = testkit::kafka_client::ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..testkit::kafka_client::ProducerRecord::default()
    };
    env.kafka.write(&env.topic, &[garbage]).await.unwrap();
    // Longer than the stall timeout.
    let end = Instant::now() + Duration::from_secs(16);
    eventually("readiness names the dead-letter topic", async || {
        let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        if body.contains("does not acknowledge dead letters") {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
    while Instant::now() < end {
        let (status, body) = streamer.get("/healthz").await.unwrap();
        assert_eq!(status, StatusCode::OK, "{body}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    env.create_topic(&env.dead_letter_topic(), 1).await;
    env.wait_until_caught_up().await;
    eventually("readiness recovers", async || {
        match streamer.get("/readyz").await {
            Ok((StatusCode::OK, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
