//! What an operator does by hand, with the binary that runs the service.

use std::collections::BTreeMap;

use cdrs_tokio::types::ByName as _;
use serde_json::{Value, json};
use testkit::cassandra_client::UserRow;
use testkit::kafka_client::ProducerRecord;
use testkit::service::{Service, ServiceOptions};
use uuid::Uuid;

use crate::world::{DEADLINE, World, outgoing, people};

const TABLE: &str = "CREATE TABLE {ks}.created_users (id uuid PRIMARY KEY, first_name text, last_name text, gender text, \
                     address text, post_code text, email text, username text, dob timestamp, registered_date timestamp, \
                     phone text, picture text, ingested_at timestamp)";

/// Runs a command to its end; returns its exit code and everything it printed.
pub(crate) async fn operate(options: ServiceOptions, arguments: &str) -> (Option<i32>, String) {
    let log = format!("command-{}", Uuid::new_v4().simple());
    let options = arguments
        .split_whitespace()
        .fold(options.log_name(log), |options, argument| options.arg(argument));
    let command = Service::start(&options).unwrap();
    let code = command.wait(DEADLINE).await.unwrap();
    (code, command.last_lines(100))
}

pub(crate) async fn done(world: &World, arguments: &str) -> String {
    let (code, output) = operate(world.options(), arguments).await;
    assert_eq!(code, Some(0), "{arguments}: {output}");
    output
}

async fn refused(world: &World, arguments: &str) -> String {
    let (code, output) = operate(world.options(), arguments).await;
    assert_eq!(code, Some(78), "{arguments}: {output}");
    output
}

async fn status(world: &World) -> Value {
    let output = done(world, "status --json").await;
    serde_json::from_str(output.trim()).unwrap()
}

pub(crate) async fn stop(streamer: &mut Service) {
    assert_eq!(streamer.terminate(DEADLINE).await.unwrap(), Some(0));
}

async fn start(streamer: &mut Service) {
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
}

pub(crate) async fn write_times(world: &World) -> BTreeMap<Uuid, i64> {
    let rows = world
        .table
        .run("SELECT id, WRITETIME(email) AS at FROM {ks}.created_users")
        .await
        .unwrap();
    rows.iter()
        .map(|row| {
            let at: i64 = row.by_name("at").unwrap().unwrap();
            (row.by_name("id").unwrap().unwrap(), at)
        })
        .collect()
}

pub(crate) async fn rows(world: &World) -> (BTreeMap<Uuid, UserRow>, BTreeMap<Uuid, i64>) {
    (world.users().await, write_times(world).await)
}

/// In milliseconds since 1970. Kafka soon deletes what is older than the topic's retention.
pub(crate) fn an_hour_ago() -> i64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(now.as_millis()).unwrap() - 3_600_000
}

/// `versions` of each user in turn, under timestamps that step back and forth.
fn history(ids: &[Uuid], versions: usize) -> Vec<ProducerRecord> {
    let base = an_hour_ago();
    let mut records = Vec::new();
    for version in 0..versions {
        for id in ids {
            let place = i64::try_from(records.len()).unwrap();
            records.push(ProducerRecord {
                timestamp: Some(base + (place * 7_919) % 100_000 - place),
                ..outgoing(*id, &format!("v{version}"))
            });
        }
    }
    records
}

pub(crate) fn ids(count: usize) -> Vec<Uuid> {
    people(count).into_iter().map(|(id, _)| id).collect()
}

pub(crate) fn tombstone(id: Uuid) -> ProducerRecord {
    ProducerRecord {
        key: Some(id.to_string().into_bytes()),
        ..ProducerRecord::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_is_filled_again_by_a_replay_from_the_beginning() {
    let world = World::new("refill", 3).await;
    let mut streamer = world.streamer().await;
    let ids = ids(60);
    world.tap.write(&world.topic, &history(&ids, 10)).await.unwrap();
    world.tap.write(&world.topic, &[tombstone(ids[0])]).await.unwrap();
    world.caught_up().await;
    world.table_is_the_log().await;
    let before = rows(&world).await;
    stop(&mut streamer).await;
    world.table.run("DROP TABLE {ks}.created_users").await.unwrap();
    assert_eq!(status(&world).await["table_id"], Value::Null);

    let output = done(&world, "replay --from-offset 0 --yes").await;
    assert!(output.contains("will be created"), "{output}");
    assert_eq!(status(&world).await["lag"], 601);
    start(&mut streamer).await;
    world.caught_up().await;
    world.table_is_the_log().await;
    assert_eq!(
        rows(&world).await,
        before,
        "the same rows under the same write timestamps"
    );

    // What comes after still wins, however old its timestamp is.
    let late = ProducerRecord {
        timestamp: Some(an_hour_ago() - 3_600_000),
        ..outgoing(ids[1], "late")
    };
    world.tap.write(&world.topic, &[late]).await.unwrap();
    world.caught_up().await;
    assert_eq!(world.users().await[&ids[1]]["first_name"], "late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_from_the_middle_changes_no_row_and_no_write_timestamp() {
    let world = World::new("middle", 1).await;
    let mut streamer = world.streamer().await;
    let ids = ids(20);
    world.tap.write(&world.topic, &history(&ids, 30)).await.unwrap();
    world.caught_up().await;
    let before = rows(&world).await;
    for from in [250, 599, 1] {
        stop(&mut streamer).await;
        let output = done(
            &world,
            &format!("replay --from-offset {from} --partition 0 --yes"),
        )
        .await;
        assert!(
            output.contains(&format!("about {} records", 600 - from)),
            "{output}"
        );
        start(&mut streamer).await;
        world.caught_up().await;
        let read = streamer.metric("streamer_records_total", "").await.unwrap();
        assert_eq!(
            read.map(|read| format!("{read}")),
            Some(format!("{}", 600 - from))
        );
        assert_eq!(rows(&world).await, before, "from offset {from}");
    }
    let late = ProducerRecord {
        timestamp: Some(an_hour_ago() - 3_600_000),
        ..outgoing(ids[0], "late")
    };
    world.tap.write(&world.topic, &[late]).await.unwrap();
    world.caught_up().await;
    world.table_is_the_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_from_a_time_begins_with_the_first_record_of_that_time() {
    let world = World::new("time", 1).await;
    let mut streamer = world.streamer().await;
    let base = an_hour_ago() / 60_000 * 60_000;
    let records: Vec<_> = (0..10)
        .map(|minute| ProducerRecord {
            timestamp: Some(base + minute * 60_000),
            ..outgoing(Uuid::new_v4(), "x")
        })
        .collect();
    for record in &records {
        world
            .tap
            .write(&world.topic, std::slice::from_ref(record))
            .await
            .unwrap();
    }
    world.caught_up().await;
    stop(&mut streamer).await;
    let between = jiff::Timestamp::from_millisecond(base + 3 * 60_000 + 1).unwrap();
    done(&world, &format!("replay --from-time {between} --yes")).await;
    assert_eq!(status(&world).await["partitions"][0]["checkpoint"], 4);
    let output = done(&world, "replay --from-time 2100-01-01T02:00:00+02:00 --yes").await;
    assert!(output.contains("nothing to move"), "{output}");
    assert_eq!(status(&world).await["partitions"][0]["checkpoint"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_table_gets_the_new_records_alone() {
    let world = World::new("accepted", 2).await;
    let mut streamer = world.streamer().await;
    world.write(&people(20)).await;
    world.caught_up().await;
    stop(&mut streamer).await;
    world.table.run("DROP TABLE {ks}.created_users").await.unwrap();
    let output = refused(&world, "accept-table").await;
    assert!(
        output.contains("CREATE TABLE") && output.contains("streamer replay"),
        "{output}"
    );
    assert_eq!(output.lines().count(), 1, "{output}");
    world.table.run(TABLE).await.unwrap();
    let other = status(&world).await;
    assert_eq!(other["partitions"][0]["same_table"], false);

    done(&world, "accept-table").await;
    let accepted = status(&world).await;
    assert_eq!(accepted["partitions"][0]["same_table"], true);
    assert_eq!(
        accepted["partitions"][0]["checkpoint"],
        other["partitions"][0]["checkpoint"]
    );
    let output = done(&world, "accept-table").await;
    assert!(output.contains("nothing to accept"), "{output}");
    let later = people(7);
    world.write(&later).await;
    start(&mut streamer).await;
    world.caught_up().await;
    let users: Vec<_> = world.users().await.into_keys().collect();
    let mut expected: Vec<_> = later.into_iter().map(|(id, _)| id).collect();
    expected.sort();
    assert_eq!(users, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_not_touched_while_a_streamer_runs() {
    let world = World::new("running", 1).await;
    let mut streamer = world.streamer().await;
    world.write(&people(10)).await;
    world.caught_up().await;
    let before = world.table.checkpoints(&world.topic, &world.topic).await.unwrap();
    for command in [
        "replay --from-offset 0 --yes",
        "accept-table",
        "dead-letters reset-limits",
    ] {
        let output = refused(&world, command).await;
        assert!(
            output.contains("(members: 1)") && output.contains("6 s"),
            "{command}: {output}"
        );
        assert_eq!(output.lines().count(), 1, "{output}");
    }
    assert_eq!(
        world.table.checkpoints(&world.topic, &world.topic).await.unwrap(),
        before
    );
    assert_eq!(status(&world).await["members"], 1);
    stop(&mut streamer).await;
    let output = refused(&world, "replay --from-offset 0").await;
    assert!(
        output.contains("about 10 records") && output.contains("--yes"),
        "{output}"
    );
    assert_eq!(
        world.table.checkpoints(&world.topic, &world.topic).await.unwrap(),
        before
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_how_far_each_partition_is() {
    let world = World::new("status", 2).await;
    let to = |partition, count| -> Vec<_> {
        (0..count)
            .map(|_| ProducerRecord {
                partition: Some(partition),
                ..outgoing(Uuid::new_v4(), "x")
            })
            .collect()
    };
    let records = [to(0, 5), to(1, 3)].concat();
    world.tap.write(&world.topic, &records).await.unwrap();
    let partitions = |status: &Value| {
        let partitions = status["partitions"].as_array().unwrap().iter();
        let numbers = partitions.map(|it| json!([it["checkpoint"], it["beginning"], it["end"], it["lag"]]));
        Value::Array(numbers.collect())
    };
    let never_run = status(&world).await;
    assert_eq!(partitions(&never_run), json!([[null, 0, 5, 5], [null, 0, 3, 3]]));
    let output = done(&world, "replay --from-offset 0 --yes").await;
    assert!(output.contains("nothing to move"), "{output}");

    let mut streamer = world.streamer().await;
    world.caught_up().await;
    stop(&mut streamer).await;
    world.tap.write(&world.topic, &to(1, 4)).await.unwrap();
    let found = status(&world).await;
    assert_eq!(partitions(&found), json!([[5, 0, 5, 0], [3, 0, 7, 4]]));
    assert_eq!((&found["lag"], &found["members"]), (&json!(4), &json!(0)));
    let first = &found["partitions"][0];
    assert_eq!(
        (&first["same_topic"], &first["same_table"]),
        (&json!(true), &json!(true))
    );
    let output = done(&world, "status").await;
    let lines: Vec<Vec<_>> = output
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(lines.contains(&vec!["1", "3", "0", "7", "4"]), "{output}");
    assert!(output.ends_with("lag    4 records"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_limits_clears_the_counts_and_moves_nothing() {
    let world = World::new("resume", 1).await;
    let mut streamer = world.streamer().await;
    let garbage = ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..ProducerRecord::default()
    };
    world
        .tap
        .write(&world.topic, &[garbage.clone(), garbage.clone(), garbage])
        .await
        .unwrap();
    world.caught_up().await;
    stop(&mut streamer).await;
    let count = |status: &Value| status["partitions"][0]["consecutive_dead_letters"].clone();
    assert_eq!(count(&status(&world).await), 3);
    done(&world, "dead-letters reset-limits").await;
    let resumed = status(&world).await;
    assert_eq!(count(&resumed), 0);
    assert_eq!(resumed["partitions"][0]["checkpoint"], 3);
    let output = done(&world, "dead-letters reset-limits").await;
    assert!(output.contains("nothing to reset"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_named_within_the_deadline() {
    let world = World::new("away", 1).await;
    for (key, names) in [
        ("kafka.brokers", "no response from kafka"),
        ("cassandra.contact_points", "no response from cassandra"),
    ] {
        let options = world.options().set(key, "127.0.0.1:1");
        let (code, output) = operate(options, "status").await;
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains(names), "{output}");
        assert_eq!(output.lines().count(), 1, "{output}");
    }
    let options = world.options().set("kafka.topic", "no_such_topic");
    let (code, output) = operate(options, "status").await;
    assert_eq!(code, Some(78), "{output}");
    assert!(
        output.contains("topic `no_such_topic` does not exist"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_can_be_slowed_down() {
    let world = World::new("slow", 2).await;
    let mut streamer = world.streamer().await;
    world.write(&people(1_500)).await;
    world.caught_up().await;
    stop(&mut streamer).await;
    world.table.run("DROP TABLE {ks}.created_users").await.unwrap();
    done(&world, "replay --from-offset 0 --yes").await;
    let options = world.options().set("cassandra.max_rows_per_second", "300");
    let started = std::time::Instant::now();
    let mut streamer = world.start(&options).await;
    world.caught_up().await;
    assert!(started.elapsed() >= std::time::Duration::from_millis(4_900));
    assert_eq!(world.users().await.len(), 1_500);
    // A stop does not wait for more than a few seconds' rows.
    world.write(&people(5_000)).await;
    world.busy(&streamer).await;
    assert_eq!(streamer.terminate(DEADLINE).await.unwrap(), Some(0));
}
