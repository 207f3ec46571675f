//! Limits of dead letters. They halt only the affected partition, until the operator resets the counts.

use std::cell::Cell;

use serde_json::Value;
use testkit::kafka_client::ProducerRecord;
use testkit::service::Service;
use uuid::Uuid;

use crate::support::commands::{run_command, run_successfully, stop};
use crate::support::test_env::{DEADLINE, TestEnv, eventually, outgoing};

pub(super) fn in_partition(partition: i32, record: ProducerRecord) -> ProducerRecord {
    ProducerRecord {
        partition: Some(partition),
        ..record
    }
}

pub(super) fn garbage() -> ProducerRecord {
    ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..ProducerRecord::default()
    }
}

/// Creates `count` valid records in `partition`.
pub(super) fn users_in(partition: i32, count: usize) -> Vec<ProducerRecord> {
    let users = (0..count).map(|_| in_partition(partition, outgoing(Uuid::new_v4(), "x")));
    users.collect()
}

async fn next_offsets(env: &TestEnv) -> Vec<i64> {
    let found = env.cassandra.checkpoints(&env.topic, &env.topic).await;
    found
        .unwrap_or_default()
        .into_values()
        .map(|it| it.next_offset)
        .collect()
}

/// Waits until the checkpoints have these offsets.
async fn wait_for_checkpoints(env: &TestEnv, expected: [i64; 2]) {
    eventually(
        "the checkpoints have the expected offsets",
        async || match next_offsets(env).await {
            found if found == expected => Ok(()),
            found => Err(format!("{found:?}")),
        },
    )
    .await;
}

async fn dead_letter_count(env: &TestEnv) -> usize {
    env.kafka.read(&env.dead_letter_topic()).await.unwrap().len()
}

/// Waits until `/readyz` reports halted partitions. Returns the reason.
pub(super) async fn wait_for_halt_reason(streamer: &Service) -> String {
    let found = Cell::new(String::new());
    eventually("readiness reports a halted partition", async || {
        let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        let readiness: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        let dependencies = readiness["dependencies"].as_array().ok_or("no dependencies")?;
        let partitions = dependencies.iter().find(|it| it["name"] == "partitions");
        match partitions.and_then(|it| it["reason"].as_str()) {
            Some(reason) => {
                found.set(reason.to_owned());
                Ok(())
            }
            None => Err(body),
        }
    })
    .await;
    found.take()
}

async fn status(env: &TestEnv, partition: usize) -> Value {
    let output = run_successfully(env, "status --json").await;
    serde_json::from_str::<Value>(output.trim()).unwrap()["partitions"][partition].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn consecutive_dead_letters_halt_partition_until_reset() {
    let env = TestEnv::new("consecutive", 2).await;
    let options = env.options().set("dead_letters.max_consecutive", "5");
    let mut streamer = env.start(&options).await;
    let mut records = users_in(0, 3);
    records.extend((0..9).map(|_| in_partition(0, garbage())));
    records.extend(users_in(0, 4));
    records.extend(users_in(1, 6));
    env.kafka.write(&env.topic, &records).await.unwrap();
    wait_for_checkpoints(&env, [8, 6]).await;
    let reason = wait_for_halt_reason(&streamer).await;
    assert!(
        reason.contains("partition 0 is halted: 5 consecutive dead letters")
            && reason.contains("streamer dead-letters reset-limits"),
        "{reason}"
    );
    assert_eq!(
        streamer.metric("streamer_halted_partitions", "").await.unwrap(),
        Some(1.0)
    );
    assert_eq!(
        streamer.get("/healthz").await.unwrap().0,
        200,
        "a restart would not help"
    );

    // The other partition continues. A restart does not reset the counts.
    env.kafka.write(&env.topic, &users_in(1, 2)).await.unwrap();
    wait_for_checkpoints(&env, [8, 8]).await;
    stop(&mut streamer).await;
    streamer.spawn().unwrap();
    assert!(
        wait_for_halt_reason(&streamer)
            .await
            .contains("partition 0 is halted")
    );
    env.kafka.write(&env.topic, &users_in(1, 2)).await.unwrap();
    wait_for_checkpoints(&env, [8, 10]).await;
    assert_eq!(
        dead_letter_count(&env).await,
        5,
        "a halted partition wrote dead letters"
    );
    let log = streamer.last_lines(1_000);
    assert_eq!(
        log.matches("partition halted").count(),
        2,
        "one log line for each start"
    );
    assert_eq!(status(&env, 0).await["lag"], 8);
    let (code, output) = run_command(options.clone(), "status --json").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(
        output.contains("\"halted\":\"5 consecutive dead letters\""),
        "{output}"
    );

    // After the reset, four more dead letters stay below the limit, so the partition is read to the end.
    stop(&mut streamer).await;
    run_successfully(&env, "dead-letters reset-limits").await;
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    wait_for_checkpoints(&env, [16, 10]).await;
    assert_eq!(dead_letter_count(&env).await, 9);
    assert_eq!(
        streamer.metric("streamer_halted_partitions", "").await.unwrap(),
        Some(0.0)
    );
    env.assert_table_matches_topic().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_ratio_halts_partition_across_restarts() {
    let env = TestEnv::new("ratio", 2).await;
    let options = env
        .options()
        .set("dead_letters.max_ratio", "0.4")
        .set("dead_letters.window", "50");
    let mut streamer = env.start(&options).await;
    let mixed = |partition: i32, every: usize, count: usize| -> Vec<_> {
        let record = |number: usize| match number % every {
            0 => in_partition(partition, garbage()),
            _ => in_partition(partition, outgoing(Uuid::new_v4(), "x")),
        };
        (0..count).map(record).collect()
    };
    let records = [mixed(0, 2, 1_000), mixed(1, 4, 1_000)].concat();
    env.kafka.write(&env.topic, &records).await.unwrap();
    let reason = wait_for_halt_reason(&streamer).await;
    assert!(
        reason.contains("partition 0 is halted: 40 % of its latest records"),
        "{reason}"
    );
    eventually(
        "the other partition is read to its end",
        async || match next_offsets(&env).await.get(1) {
            Some(1_000) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    let halted_at = next_offsets(&env).await[0];
    assert!((20..500).contains(&halted_at), "{halted_at}");
    streamer.kill().await.unwrap();
    streamer.spawn().unwrap();
    assert!(
        wait_for_halt_reason(&streamer)
            .await
            .contains("partition 0 is halted")
    );
    assert_eq!(next_offsets(&env).await[0], halted_at);
    let log = env.kafka.read(&env.topic).await.unwrap();
    let read: Vec<_> = log
        .into_iter()
        .filter(|record| record.partition == 1 || record.offset < halted_at)
        .collect();
    env.assert_table_matches(&read).await;
}
