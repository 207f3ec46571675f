//! The order of the log against every disorder that can be made, with the write timestamps of all columns as Cassandra has
//! them: the row is the user's last event, whole.

use std::collections::{BTreeMap, BTreeSet};

use cdrs_tokio::types::ByName as _;
use testkit::kafka_client::ProducerRecord;
use uuid::Uuid;

use crate::commands::{an_hour_ago, done, ids, stop, tombstone};
use crate::world::{World, outgoing};

/// All columns that have a write timestamp.
const COLUMNS: [&str; 12] = [
    "first_name",
    "last_name",
    "gender",
    "address",
    "post_code",
    "email",
    "username",
    "dob",
    "registered_date",
    "phone",
    "picture",
    "ingested_at",
];

/// The write timestamps of each user's columns; a column that is null has none.
async fn write_times(world: &World) -> BTreeMap<Uuid, BTreeMap<&'static str, i64>> {
    let columns = COLUMNS
        .map(|column| format!("WRITETIME({column}) AS {column}"))
        .join(", ");
    let ask = format!("SELECT id, {columns} FROM {{ks}}.created_users");
    let rows = world.table.run(&ask).await.unwrap();
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

/// Every row is of one event: its columns have one write timestamp.
fn rows_are_whole(times: &BTreeMap<Uuid, BTreeMap<&'static str, i64>>) {
    for (id, columns) in times {
        let distinct: BTreeSet<_> = columns.values().collect();
        assert_eq!(distinct.len(), 1, "{id} is of more than one event: {columns:?}");
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

/// Versions of each user by two producers, whose clocks are an hour apart and step back; each fifth version lacks a
/// field, each seventh is a deletion.
fn disorder(ids: &[Uuid], from: usize, versions: usize) -> Vec<ProducerRecord> {
    let base = an_hour_ago() + 600_000;
    let mut records = Vec::new();
    for version in from..from + versions {
        for id in ids {
            let place = i64::try_from(records.len()).unwrap();
            let apart = if place % 2 == 0 { 3_600_000 } else { 0 };
            let timestamp = base + apart + (place * 7_919) % 30_000 - place * 10;
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
async fn after_every_disorder_each_row_is_its_users_last_event_in_every_column() {
    let world = World::new("order", 2).await;
    let ids = ids(40);
    // Many versions of one user in one micro-batch and in several that are written at once, with kills in between.
    let options = world
        .options()
        .set("batch.max_rows", "64")
        .set("batch.max_in_flight", "8");
    world
        .tap
        .write(&world.topic, &disorder(&ids, 0, 20))
        .await
        .unwrap();
    let mut streamer = world.start(&options).await;
    world.caught_up().await;
    for part in 1..4 {
        let records = disorder(&ids, part * 20, 20);
        world.tap.write(&world.topic, &records).await.unwrap();
        world.busy(&streamer).await;
        streamer.kill().await.unwrap();
        streamer.spawn().unwrap();
        streamer.wait_until_ready(crate::world::DEADLINE).await.unwrap();
    }
    world.caught_up().await;
    world.table_is_the_log().await;
    let times = write_times(&world).await;
    rows_are_whole(&times);
    let rows = world.users().await;

    // Everything a second time, from several offsets: nothing changes, not even a write timestamp.
    for from in [0, 700, 1_599] {
        stop(&mut streamer).await;
        done(&world, &format!("replay --from-offset {from} --yes")).await;
        streamer.spawn().unwrap();
        world.caught_up().await;
        assert_eq!(write_times(&world).await, times, "from {from}");
        assert_eq!(world.users().await, rows, "from {from}");
    }

    // Into an empty table: other write timestamps, the same rows.
    stop(&mut streamer).await;
    world.table.run("DROP TABLE {ks}.created_users").await.unwrap();
    done(&world, "replay --from-offset 0 --yes").await;
    streamer.spawn().unwrap();
    world.caught_up().await;
    assert_eq!(world.users().await, rows);
    rows_are_whole(&write_times(&world).await);

    // And what comes then still has the last word, under whatever timestamp.
    let late: Vec<_> = ids
        .iter()
        .map(|id| ProducerRecord {
            timestamp: Some(an_hour_ago()),
            ..outgoing(*id, "late")
        })
        .collect();
    world.tap.write(&world.topic, &late).await.unwrap();
    world.caught_up().await;
    world.table_is_the_log().await;
    rows_are_whole(&write_times(&world).await);
    assert!(world.users().await.values().all(|row| row["phone"] == "late"));
    assert_eq!(streamer.terminate(crate::world::DEADLINE).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_writer_wins_by_real_time_and_only_in_what_it_writes() {
    let world = World::new("foreign", 1).await;
    let _streamer = world.streamer().await;
    let ids = ids(2);
    world.write(&[(ids[0], "ours"), (ids[1], "ours")]).await;
    world.caught_up().await;
    // After ours in real time: it wins, in its column.
    let update = |id: Uuid, phone: &str, timestamp: &str| {
        let statement =
            format!("UPDATE {{ks}}.created_users {timestamp} SET phone = '{phone}' WHERE id = {id}");
        let table = &world.table;
        async move { table.run(&statement).await.unwrap() }
    };
    update(ids[0], "theirs", "").await;
    let rows = world.users().await;
    assert_eq!(
        (&*rows[&ids[0]]["phone"], &*rows[&ids[0]]["email"]),
        ("theirs", "ours@x")
    );
    let times = write_times(&world).await;
    assert!(times[&ids[0]]["phone"] > times[&ids[0]]["email"]);
    // Before ours in real time: it loses.
    let minute_ago = format!("USING TIMESTAMP {}", times[&ids[1]]["email"] - 60_000_000);
    update(ids[1], "theirs", &minute_ago).await;
    assert_eq!(world.users().await[&ids[1]]["phone"], "ours");
    // Ours after theirs in real time: ours again, in every column.
    world.write(&[(ids[0], "newer")]).await;
    world.caught_up().await;
    assert_eq!(world.users().await[&ids[0]]["phone"], "newer");
    rows_are_whole(&write_times(&world).await);
}
