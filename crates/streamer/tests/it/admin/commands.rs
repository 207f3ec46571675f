//! The commands `status`, `replay`, `accept-table` and `dead-letters reset-limits`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::kafka_client::ProducerRecord;
use testkit::proxy::{Behavior, Direction, Flow, Proxy};
use testkit::service::Service;
use uuid::Uuid;

use crate::support::commands::{an_hour_ago, new_ids, rows, run_command, run_successfully, stop, tombstone};
use crate::support::test_env::{DEADLINE, TestEnv, new_users, outgoing};

/// Runs a command that must exit 78. Returns its output.
async fn run_rejected(env: &TestEnv, arguments: &str) -> String {
    let (code, output) = run_command(env.options(), arguments).await;
    assert_eq!(code, Some(78), "{arguments}: {output}");
    output
}

async fn status(env: &TestEnv) -> Value {
    let output = run_successfully(env, "status --json").await;
    serde_json::from_str(output.trim()).unwrap()
}

async fn start(streamer: &mut Service) {
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
}

/// Creates `versions` records of each user in turn, with timestamps that jump back and forth.
fn versions_of(ids: &[Uuid], versions: usize) -> Vec<ProducerRecord> {
    let base = an_hour_ago();
    let mut records = Vec::new();
    for version in 0..versions {
        for id in ids {
            let index = i64::try_from(records.len()).unwrap();
            records.push(ProducerRecord {
                timestamp: Some(base + (index * 7_919) % 100_000 - index),
                ..outgoing(*id, &format!("v{version}"))
            });
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_from_start_refills_dropped_table() {
    let env = TestEnv::new("refill", 3).await;
    let mut streamer = env.streamer().await;
    let ids = new_ids(60);
    env.kafka.write(&env.topic, &versions_of(&ids, 10)).await.unwrap();
    env.kafka.write(&env.topic, &[tombstone(ids[0])]).await.unwrap();
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
    let before = rows(&env).await;
    stop(&mut streamer).await;
    env.cassandra.run("DROP TABLE {ks}.created_users").await.unwrap();
    assert_eq!(status(&env).await["table_id"], Value::Null);

    let output = run_successfully(&env, "replay --from-offset 0 --yes").await;
    assert!(output.contains("will be created"), "{output}");
    assert_eq!(status(&env).await["lag"], 601);
    start(&mut streamer).await;
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
    assert_eq!(
        rows(&env).await,
        before,
        "the same rows under the same write timestamps"
    );

    // A later record wins, even with an older timestamp.
    let late = ProducerRecord {
        timestamp: Some(an_hour_ago() - 3_600_000),
        ..outgoing(ids[1], "late")
    };
    env.kafka.write(&env.topic, &[late]).await.unwrap();
    env.wait_until_caught_up().await;
    assert_eq!(env.users().await[&ids[1]]["first_name"], "late");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_from_offset_changes_no_row_or_timestamp() {
    let env = TestEnv::new("middle", 1).await;
    let mut streamer = env.streamer().await;
    let ids = new_ids(20);
    env.kafka.write(&env.topic, &versions_of(&ids, 30)).await.unwrap();
    env.wait_until_caught_up().await;
    let before = rows(&env).await;
    for from in [250, 599, 1] {
        stop(&mut streamer).await;
        let output =
            run_successfully(&env, &format!("replay --from-offset {from} --partition 0 --yes")).await;
        assert!(
            output.contains(&format!("about {} records", 600 - from)),
            "{output}"
        );
        start(&mut streamer).await;
        env.wait_until_caught_up().await;
        let read = streamer.metric("streamer_records_total", "").await.unwrap();
        assert_eq!(
            read.map(|read| format!("{read}")),
            Some(format!("{}", 600 - from))
        );
        assert_eq!(rows(&env).await, before, "from offset {from}");
    }
    let late = ProducerRecord {
        timestamp: Some(an_hour_ago() - 3_600_000),
        ..outgoing(ids[0], "late")
    };
    env.kafka.write(&env.topic, &[late]).await.unwrap();
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_from_time_starts_at_first_record_of_that_time() {
    let env = TestEnv::new("time", 1).await;
    let mut streamer = env.streamer().await;
    let base = an_hour_ago() / 60_000 * 60_000;
    let records: Vec<_> = (0..10)
        .map(|minute| ProducerRecord {
            timestamp: Some(base + minute * 60_000),
            ..outgoing(Uuid::new_v4(), "x")
        })
        .collect();
    for record in &records {
        env.kafka
            .write(&env.topic, std::slice::from_ref(record))
            .await
            .unwrap();
    }
    env.wait_until_caught_up().await;
    stop(&mut streamer).await;
    let between_records = jiff::Timestamp::from_millisecond(base + 3 * 60_000 + 1).unwrap();
    run_successfully(&env, &format!("replay --from-time {between_records} --yes")).await;
    assert_eq!(status(&env).await["partitions"][0]["checkpoint"], 4);
    let output = run_successfully(&env, "replay --from-time 2100-01-01T02:00:00+02:00 --yes").await;
    assert!(output.contains("nothing to move"), "{output}");
    assert_eq!(status(&env).await["partitions"][0]["checkpoint"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn accept_table_writes_only_new_records() {
    let env = TestEnv::new("accepted", 2).await;
    let mut streamer = env.streamer().await;
    env.write(&new_users(20)).await;
    env.wait_until_caught_up().await;
    stop(&mut streamer).await;
    env.cassandra.run("DROP TABLE {ks}.created_users").await.unwrap();
    let output = run_rejected(&env, "accept-table").await;
    assert!(
        output.contains("CREATE TABLE") && output.contains("streamer replay"),
        "{output}"
    );
    assert_eq!(output.lines().count(), 1, "{output}");
    let create = run_successfully(&env, "schema show").await;
    env.cassandra.run(&create).await.unwrap();
    let other = status(&env).await;
    assert_eq!(other["partitions"][0]["same_table"], false);

    run_successfully(&env, "accept-table").await;
    let accepted = status(&env).await;
    assert_eq!(accepted["partitions"][0]["same_table"], true);
    assert_eq!(
        accepted["partitions"][0]["checkpoint"],
        other["partitions"][0]["checkpoint"]
    );
    let output = run_successfully(&env, "accept-table").await;
    assert!(output.contains("nothing to accept"), "{output}");
    let later = new_users(7);
    env.write(&later).await;
    start(&mut streamer).await;
    env.wait_until_caught_up().await;
    let users: Vec<_> = env.users().await.into_keys().collect();
    let mut expected: Vec<_> = later.into_iter().map(|(id, _)| id).collect();
    expected.sort();
    assert_eq!(users, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_keep_checkpoints_while_streamer_runs() {
    let env = TestEnv::new("running", 1).await;
    let mut streamer = env.streamer().await;
    env.write(&new_users(10)).await;
    env.wait_until_caught_up().await;
    let before = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap();
    for command in [
        "replay --from-offset 0 --yes",
        "accept-table",
        "dead-letters reset-limits",
    ] {
        let output = run_rejected(&env, command).await;
        assert!(
            output.contains("(members: 1)") && output.contains("6 s"),
            "{command}: {output}"
        );
        assert_eq!(output.lines().count(), 1, "{output}");
    }
    assert_eq!(
        env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap(),
        before
    );
    assert_eq!(status(&env).await["members"], 1);
    stop(&mut streamer).await;
    let output = run_rejected(&env, "replay --from-offset 0").await;
    assert!(
        output.contains("about 10 records") && output.contains("--yes"),
        "{output}"
    );
    assert_eq!(
        env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap(),
        before
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_checkpoint_and_lag_per_partition() {
    let env = TestEnv::new("status", 2).await;
    let in_partition = |partition, count| -> Vec<_> {
        (0..count)
            .map(|_| ProducerRecord {
                partition: Some(partition),
                ..outgoing(Uuid::new_v4(), "x")
            })
            .collect()
    };
    let records = [in_partition(0, 5), in_partition(1, 3)].concat();
    env.kafka.write(&env.topic, &records).await.unwrap();
    let partitions = |status: &Value| {
        let partitions = status["partitions"].as_array().unwrap().iter();
        let numbers = partitions.map(|it| json!([it["checkpoint"], it["beginning"], it["end"], it["lag"]]));
        Value::Array(numbers.collect())
    };
    let never_run = status(&env).await;
    assert_eq!(partitions(&never_run), json!([[null, 0, 5, 5], [null, 0, 3, 3]]));
    let output = run_successfully(&env, "replay --from-offset 0 --yes").await;
    assert!(output.contains("nothing to move"), "{output}");

    let mut streamer = env.streamer().await;
    env.wait_until_caught_up().await;
    stop(&mut streamer).await;
    env.kafka.write(&env.topic, &in_partition(1, 4)).await.unwrap();
    let found = status(&env).await;
    assert_eq!(partitions(&found), json!([[5, 0, 5, 0], [3, 0, 7, 4]]));
    assert_eq!((&found["lag"], &found["members"]), (&json!(4), &json!(0)));
    let first = &found["partitions"][0];
    assert_eq!(
        (&first["same_topic"], &first["same_table"]),
        (&json!(true), &json!(true))
    );
    let output = run_successfully(&env, "status").await;
    let lines: Vec<Vec<_>> = output
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(lines.contains(&vec!["1", "3", "0", "7", "4"]), "{output}");
    assert!(output.ends_with("lag    4 records"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_limits_clears_counts_and_keeps_checkpoint() {
    let env = TestEnv::new("reset_limits", 1).await;
    let mut streamer = env.streamer().await;
    let garbage = ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..ProducerRecord::default()
    };
    env.kafka
        .write(&env.topic, &[garbage.clone(), garbage.clone(), garbage])
        .await
        .unwrap();
    env.wait_until_caught_up().await;
    stop(&mut streamer).await;
    let count = |status: &Value| status["partitions"][0]["consecutive_dead_letters"].clone();
    assert_eq!(count(&status(&env).await), 3);
    run_successfully(&env, "dead-letters reset-limits").await;
    let reset = status(&env).await;
    assert_eq!(count(&reset), 0);
    assert_eq!(reset["partitions"][0]["checkpoint"], 3);
    let output = run_successfully(&env, "dead-letters reset-limits").await;
    assert!(output.contains("nothing to reset"), "{output}");
}

/// While records flow, no end may be older than the checkpoint that it is compared with.
#[tokio::test(flavor = "multi_thread")]
async fn status_of_running_streamer_never_has_checkpoint_after_end() {
    let env = TestEnv::new("consistent", 3).await;
    let _streamer = env.streamer().await;
    let proxy = Proxy::start(env.node()).await.unwrap();
    // The command reads the checkpoints a second later than it would.
    let slow = Flow {
        delay: Duration::from_millis(200),
        ..Flow::default()
    };
    proxy.set(Behavior::one_way(Direction::ToClient, slow));
    let options = env
        .options()
        .set("cassandra.contact_points", proxy.address().to_string())
        // A slow handshake on a busy machine is no failure.
        .set("cassandra.connect_timeout", "10s");
    env.with_traffic_of(20, async {
        for _ in 0..2 {
            let (code, output) = run_command(options.clone(), "status --json").await;
            assert_eq!(code, Some(0), "{output}");
            let status: Value = serde_json::from_str(output.trim()).unwrap();
            for partition in status["partitions"].as_array().unwrap() {
                let number = |name: &str| partition[name].as_i64().unwrap();
                assert!(number("checkpoint") <= number("end"), "{partition}");
                assert_eq!(number("lag"), number("end") - number("checkpoint"));
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn command_names_unreachable_server_within_5_s() {
    let env = TestEnv::new("unreachable", 1).await;
    let _creates_tables = env.streamer().await;
    let checks = [
        ("kafka.brokers", "no response from kafka within 4 s"),
        (
            "cassandra.contact_points",
            "no response from cassandra within 4 s",
        ),
    ]
    .map(async |(key, expected)| {
        let options = env.options().set(key, "127.0.0.1:1");
        for command in ["status", "verify"] {
            let started = Instant::now();
            let (code, output) = run_command(options.clone(), command).await;
            let elapsed = started.elapsed();
            assert_eq!(code, Some(1), "{output}");
            for part in [expected, "127.0.0.1:1", "refused"] {
                assert!(output.contains(part), "{command}: {output}");
            }
            assert_eq!(output.lines().count(), 1, "{output}");
            assert!(elapsed < Duration::from_millis(5_500), "{command}: {elapsed:?}");
        }
    });
    futures::future::join_all(checks).await;
    let options = env.options().set("kafka.topic", "no_such_topic");
    let (code, output) = run_command(options, "status").await;
    assert_eq!(code, Some(78), "{output}");
    assert!(
        output.contains("topic `no_such_topic` does not exist"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn row_rate_limit_slows_replay() {
    let env = TestEnv::new("slow", 2).await;
    let mut streamer = env.streamer().await;
    env.write(&new_users(1_500)).await;
    env.wait_until_caught_up().await;
    stop(&mut streamer).await;
    env.cassandra.run("DROP TABLE {ks}.created_users").await.unwrap();
    run_successfully(&env, "replay --from-offset 0 --yes").await;
    let options = env.options().set("cassandra.max_rows_per_second", "300");
    let started = Instant::now();
    let mut streamer = env.start(&options).await;
    env.wait_until_caught_up().await;
    assert!(started.elapsed() >= Duration::from_millis(4_900));
    assert_eq!(env.users().await.len(), 1_500);
    // A shutdown waits for the rows of a few seconds at most.
    env.write(&new_users(5_000)).await;
    env.wait_for_rows(&streamer).await;
    assert_eq!(streamer.terminate(DEADLINE).await.unwrap(), Some(0));
}
