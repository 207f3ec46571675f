//! Write order: each row is its user's last record in all columns, for any record timestamps. The tests compare
//! Cassandra's write timestamps of all columns.

use std::collections::{BTreeMap, BTreeSet};

use cdrs_tokio::types::ByName as _;
use testkit::kafka_client::ProducerRecord;
use uuid::Uuid;

use crate::support::commands::{an_hour_ago, new_ids, run_successfully, stop, tombstone};
use crate::support::test_env::{COLUMNS, KILLED_SESSION, TestEnv, outgoing};

/// Returns the write timestamps of each user's columns. A null column has none.
async fn write_timestamps(env: &TestEnv) -> BTreeMap<Uuid, BTreeMap<&'static str, i64>> {
    let columns = COLUMNS
        .map(|column| format!("WRITETIME({column}) AS {column}"))
        .join(", ");
    let query = format!("SELECT id, {columns} FROM {{ks}}.created_users");
    let rows = env.cassandra.run(&query).await.unwrap();
    rows.iter()
        .map(|row| {
            let times = COLUMNS.map(|column| Some((column, row.by_name::<i64>(column).unwrap()?)));
            (
                row.by_name("id").unwrap().unwrap(),
                times.into_iter().flatten().collect(),
            )
        })
        .collect()
}

/// Checks that all columns of a row have the same write timestamp, so that they are of one record.
fn assert_rows_are_of_one_record(times: &BTreeMap<Uuid, BTreeMap<&'static str, i64>>) {
    for (id, columns) in times {
        let distinct: BTreeSet<_> = columns.values().collect();
        assert_eq!(distinct.len(), 1, "{id} is of several records: {columns:?}");
    }
}

fn without_registration(record: ProducerRecord) -> ProducerRecord {
    let value = String::from_utf8(record.value.unwrap()).unwrap();
    let value = value.replace(r#""registered_date":"2010-01-01T00:00:00.001Z","#, "");
    ProducerRecord {
        value: Some(value.into_bytes()),
        ..record
    }
}

/// Creates versions of each user by two producers whose clocks differ by an hour and jump back. Each fifth version lacks a
/// field, each seventh is a deletion.
fn unordered_versions(ids: &[Uuid], from: usize, versions: usize) -> Vec<ProducerRecord> {
    let base = an_hour_ago() + 600_000;
    let mut records = Vec::new();
    for version in from..from + versions {
        for id in ids {
            let index = i64::try_from(records.len()).unwrap();
            let skew = if index % 2 == 0 { 3_600_000 } else { 0 };
            let timestamp = base + skew + (index * 7_919) % 30_000 - index * 10;
            let record = match version {
                _ if version % 7 == 6 => tombstone(*id),
                _ if version % 5 == 4 => without_registration(outgoing(*id, &format!("v{version}"))),
                _ => outgoing(*id, &format!("v{version}")),
            };
            records.push(ProducerRecord {
                timestamp: Some(timestamp),
                ..record
            });
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn last_event_wins_under_any_timestamps() {
    let env = TestEnv::new("order", 2).await;
    let ids = new_ids(40);
    // Many versions of a user in one micro-batch and in several in flight, with kills in between.
    let options = env
        .options()
        .set("kafka.session_timeout", KILLED_SESSION)
        .set("batch.max_rows", "64")
        .set("batch.max_in_flight", "8");
    env.kafka
        .write(&env.topic, &unordered_versions(&ids, 0, 20))
        .await
        .unwrap();
    let mut streamer = env.start(&options).await;
    env.wait_until_caught_up().await;
    for part in 1..4 {
        let records = unordered_versions(&ids, part * 20, 20);
        env.kafka.write(&env.topic, &records).await.unwrap();
        env.wait_for_rows(&streamer).await;
        streamer.kill().await.unwrap();
        streamer.spawn().unwrap();
        streamer
            .wait_until_ready(crate::support::test_env::DEADLINE)
            .await
            .unwrap();
    }
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
    let times = write_timestamps(&env).await;
    assert_rows_are_of_one_record(&times);
    let rows = env.users().await;

    // Replays from several offsets change no row and no write timestamp.
    for from in [0, 700, 1_599] {
        stop(&mut streamer).await;
        run_successfully(&env, &format!("replay --from-offset {from} --yes")).await;
        streamer.spawn().unwrap();
        env.wait_until_caught_up().await;
        assert_eq!(write_timestamps(&env).await, times, "from {from}");
        assert_eq!(env.users().await, rows, "from {from}");
    }

    // A replay into an empty table gives the same rows under other write timestamps.
    stop(&mut streamer).await;
    env.cassandra.run("DROP TABLE {ks}.created_users").await.unwrap();
    run_successfully(&env, "replay --from-offset 0 --yes").await;
    streamer.spawn().unwrap();
    env.wait_until_caught_up().await;
    assert_eq!(env.users().await, rows);
    assert_rows_are_of_one_record(&write_timestamps(&env).await);

    // A later record wins, even with an older timestamp.
    let late: Vec<_> = ids
        .iter()
        .map(|id| ProducerRecord {
            timestamp: Some(an_hour_ago()),
            ..outgoing(*id, "late")
        })
        .collect();
    env.kafka.write(&env.topic, &late).await.unwrap();
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
    assert_rows_are_of_one_record(&write_timestamps(&env).await);
    assert!(env.users().await.values().all(|row| row["phone"] == "late"));
    assert_eq!(
        streamer
            .terminate(crate::support::test_env::DEADLINE)
            .await
            .unwrap(),
        Some(0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_writers_win_by_real_time_per_column() {
    let env = TestEnv::new("other_writer", 1).await;
    let _streamer = env.streamer().await;
    let ids = new_ids(2);
    env.write(&[(ids[0], "ours"), (ids[1], "ours")]).await;
    env.wait_until_caught_up().await;
    // A later write wins in its column.
    let update = |id: Uuid, phone: &str, timestamp: &str| {
        let statement =
            format!("UPDATE {{ks}}.created_users {timestamp} SET phone = '{phone}' WHERE id = {id}");
        let table = &env.cassandra;
        async move { table.run(&statement).await.unwrap() }
    };
    update(ids[0], "theirs", "").await;
    let rows = env.users().await;
    assert_eq!(
        (&*rows[&ids[0]]["phone"], &*rows[&ids[0]]["email"]),
        ("theirs", "ours@x")
    );
    let times = write_timestamps(&env).await;
    assert!(times[&ids[0]]["phone"] > times[&ids[0]]["email"]);
    // An earlier write loses.
    let minute_ago = format!("USING TIMESTAMP {}", times[&ids[1]]["email"] - 60_000_000);
    update(ids[1], "theirs", &minute_ago).await;
    assert_eq!(env.users().await[&ids[1]]["phone"], "ours");
    // A later record wins in all columns.
    env.write(&[(ids[0], "newer")]).await;
    env.wait_until_caught_up().await;
    assert_eq!(env.users().await[&ids[0]]["phone"], "newer");
    assert_rows_are_of_one_record(&write_timestamps(&env).await);
}
