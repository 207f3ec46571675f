//! A consumer that silently gets nothing although every server is there: `/healthz` says so.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use reqwest::StatusCode;
use testkit::process::Program;
use testkit::servers::{Software, jars};

use crate::world::{DEADLINE, World, eventually, people};

/// Lets clients of this name read so many bytes in a second, or as many as they like.
async fn quota(world: &World, client: &str, change: &[&str]) {
    let classes = format!("{}/*", jars(Software::KAFKA).await.unwrap().display());
    let log = std::env::temp_dir().join(format!("{client}.quota.log"));
    let tool = Program::new("java")
        .args(["-Xmx128m", "-cp", &classes, "kafka.admin.ConfigCommand"])
        .args(["--bootstrap-server", &world.bootstrap(), "--alter"])
        .args(["--entity-type", "clients", "--entity-name", client])
        .args(change)
        .log_to(&log);
    let child = tool.spawn().unwrap();
    let status = child.wait(DEADLINE).await.unwrap();
    assert!(status.success(), "{}", child.last_lines(20));
}

async fn delete_topic(world: &World, name: &str) {
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", world.bootstrap())
        .create()
        .unwrap();
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
    for result in admin.delete_topics(&[name], &options).await.unwrap() {
        result.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_never_come_although_kafka_is_there_make_it_unhealthy_until_they_come() {
    let world = World::new("stall", 1).await;
    let client = format!("client-{}", world.topic);
    let options = world
        .options()
        .set("kafka.properties.client_id", &client)
        .set("kafka.probe_interval", "500ms")
        .set("checkpoint.stall_timeout", "3s");
    let streamer = world.start(&options).await;
    world.write(&people(10)).await;
    world.caught_up().await;
    // So little that the broker answers every fetch with nothing, and every other question as ever.
    quota(&world, &client, &["--add-config", "consumer_byte_rate=1"]).await;
    world.write(&people(2_000)).await;
    eventually("it is unhealthy", async || {
        let (status, body) = streamer
            .get("/healthz")
            .await
            .map_err(|error| error.to_string())?;
        let told = body.contains("progress: partition 0 has unread records and no new checkpoint");
        if status == StatusCode::SERVICE_UNAVAILABLE && told {
            Ok(())
        } else {
            Err(format!("{status} {body}"))
        }
    })
    .await;
    let (status, body) = streamer.get("/readyz").await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    quota(&world, &client, &["--delete-config", "consumer_byte_rate"]).await;
    world.caught_up().await;
    eventually("it is healthy again", async || {
        match streamer.get("/healthz").await {
            Ok((StatusCode::OK, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_that_takes_nothing_is_told_by_readiness_and_is_no_stall() {
    let world = World::new("deadend", 1).await;
    let options = world
        .options()
        .set("kafka.probe_interval", "500ms")
        // Longer than one attempt to write a dead letter.
        .set("checkpoint.stall_timeout", "15s");
    let streamer = world.start(&options).await;
    world.write(&people(3)).await;
    world.caught_up().await;
    delete_topic(&world, &world.dead_letter_topic()).await;
    let garbage = testkit::kafka_client::ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..testkit::kafka_client::ProducerRecord::default()
    };
    world.tap.write(&world.topic, &[garbage]).await.unwrap();
    eventually("it says what it waits for", async || {
        let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        if body.contains("does not acknowledge dead letters") {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
    // Longer than the stall takes to be seen.
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while std::time::Instant::now() < until {
        let (status, body) = streamer.get("/healthz").await.unwrap();
        assert_eq!(status, StatusCode::OK, "{body}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.create_topic(&world.dead_letter_topic(), 1).await;
    world.caught_up().await;
    eventually("it is ready again", async || {
        match streamer.get("/readyz").await {
            Ok((StatusCode::OK, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
