//! Dead letters in the operator's hands.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::kafka_client::ProducerRecord;
use uuid::Uuid;

use crate::commands::{an_hour_ago, done, ids, operate, rows, stop, tombstone, write_times};
use crate::world::{World, outgoing, people};

#[tokio::test(flavor = "multi_thread")]
async fn redriven_dead_letters_take_their_place_in_the_log_and_not_the_last_word() {
    let world = World::new("redrive", 1).await;
    let refusing = world.options().set("tombstones", "dead_letter");
    let _streamer = world.start(&refusing).await;
    let ids = ids(2);
    let records = [
        outgoing(ids[0], "gone"),
        outgoing(ids[1], "old"),
        tombstone(ids[0]),
        tombstone(ids[1]),
        outgoing(ids[1], "new"),
    ];
    world.tap.write(&world.topic, &records).await.unwrap();
    world.caught_up().await;
    let before = rows(&world).await;
    assert_eq!(before.0.len(), 2);

    let listed = done(&world, "dead-letters list --json").await;
    let mut listed: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    listed.sort_by_key(|it| it["offset"].as_i64());
    let places: Vec<_> = listed
        .iter()
        .map(|it| (&it["partition"], &it["offset"]))
        .collect();
    assert_eq!(places, [(&json!(0), &json!(2)), (&json!(0), &json!(3))]);
    assert_eq!(listed[0]["reason"], "tombstone");
    let listed = done(&world, "dead-letters list").await;
    assert!(listed.ends_with("dead letters: 2, tombstone: 2"), "{listed}");
    let shown = done(&world, "dead-letters show 0:3").await;
    assert!(
        shown.contains(&ids[1].to_string()) && shown.contains("value   (null)"),
        "{shown}"
    );
    let (code, output) = operate(world.options(), "dead-letters show 0:4").await;
    assert_eq!(code, Some(1), "{output}");

    // As they were refused, they still are.
    let (code, output) = operate(refusing, "redrive").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("written: 0, still rejected: 2"), "{output}");
    let output = done(&world, "redrive --dry-run").await;
    assert!(
        output.contains("0:2              would be written") && output.contains("written: 1"),
        "{output}"
    );
    assert!(
        output.contains("0:3              is superseded by the later record 0:4 of the same user"),
        "{output}"
    );
    assert_eq!(rows(&world).await, before);
    let output = done(&world, "redrive --reason json").await;
    assert!(output.contains("written: 0, still rejected: 0"), "{output}");

    // It may run beside a streamer.
    for _ in 0..2 {
        let output = done(&world, "redrive").await;
        assert!(output.contains("0:2              written"), "{output}");
        assert!(
            output.contains("written: 1, still rejected: 0, too old: 0, superseded: 1"),
            "{output}"
        );
        let after = rows(&world).await;
        assert_eq!(after.0, BTreeMap::from([(ids[1], before.0[&ids[1]].clone())]));
        assert_eq!(after.1[&ids[1]], before.1[&ids[1]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_redriven_under_its_own_write_timestamp_while_a_deletion_could_hold_it_back() {
    let world = World::new("letters", 1).await;
    let _streamer = world.streamer().await;
    world.write(&people(1)).await;
    world.caught_up().await;
    world.table.run("TRUNCATE {ks}.created_users").await.unwrap();
    world
        .table
        .run("ALTER TABLE {ks}.created_users WITH gc_grace_seconds = 3600")
        .await
        .unwrap();
    let micros = an_hour_ago() * 1_000;
    let letter = |offset: i64, id: Uuid, stamp: i64| {
        let mut letter = outgoing(id, "letter");
        let headers = [
            ("dlq-reason", "by_an_older_streamer".to_owned()),
            ("dlq-error", "so it seemed".to_owned()),
            ("dlq-topic", world.topic.clone()),
            ("dlq-partition", "0".to_owned()),
            ("dlq-topic-id", Uuid::from_u128(7).to_string()),
            ("dlq-offset", offset.to_string()),
            ("dlq-write-timestamp", stamp.to_string()),
            ("dlq-at", "2100-01-01T00:00:00Z".to_owned()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.into_bytes()));
        letter.headers.extend(headers);
        letter
    };
    let ids = ids(3);
    let minutes = |count: i64| count * 60_000_000;
    let letters = [
        letter(0, ids[0], micros + minutes(30)),
        letter(1, ids[1], micros - 1),
        // Twice, the second time in a replay.
        letter(2, ids[2], micros + minutes(30)),
        letter(2, ids[2], micros + minutes(20)),
        outgoing(ids[0], "no letter"),
    ];
    world
        .tap
        .write(&world.dead_letter_topic(), &letters)
        .await
        .unwrap();
    let output = done(&world, "redrive --limit 1").await;
    assert!(
        output.contains("written: 1,") && output.contains("over the limit: 1"),
        "{output}"
    );
    let output = done(&world, "redrive").await;
    assert!(
        output.contains("written: 2,")
            && output.contains("too old: 1")
            && output.contains("0:1              is older"),
        "{output}"
    );
    assert_eq!(
        write_times(&world).await,
        BTreeMap::from([(ids[0], micros + minutes(30)), (ids[2], micros + minutes(30))])
    );
    assert_eq!(world.users().await[&ids[0]]["ingested_at"], "1700000000123");
    let listed = done(&world, "dead-letters list").await;
    assert!(
        listed.contains("dead letters: 3") && listed.ends_with("records that are not dead letters: 1"),
        "{listed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_does_not_beat_what_came_after_it_in_a_table_that_was_filled_again_from_there() {
    let world = World::new("refilled", 1).await;
    let refusing = world.options().set("tombstones", "dead_letter");
    let mut streamer = world.start(&refusing).await;
    let ids = ids(3);
    let base = an_hour_ago();
    let at = |minutes: i64, record: ProducerRecord| ProducerRecord {
        timestamp: Some(base + minutes * 60_000),
        ..record
    };
    // The clock of whoever wrote the last ones is half an hour behind.
    for record in [
        at(30, outgoing(ids[0], "first")),
        at(30, tombstone(ids[1])),
        at(30, tombstone(ids[0])),
        at(0, outgoing(ids[1], "last")),
        at(0, outgoing(ids[2], "other")),
    ] {
        world.tap.write(&world.topic, &[record]).await.unwrap();
    }
    world.caught_up().await;
    stop(&mut streamer).await;
    world.table.run("DROP TABLE {ks}.created_users").await.unwrap();
    done(&world, "replay --from-offset 3 --yes").await;
    let _streamer = world.start(&refusing).await;
    world.caught_up().await;
    let refilled = rows(&world).await;
    assert_eq!(
        refilled.1[&ids[1]],
        base * 1_000,
        "its write timestamp lies below the letter's"
    );
    let output = done(&world, "redrive").await;
    assert!(
        output.contains("written: 1,") && output.contains("superseded: 1"),
        "{output}"
    );
    assert_eq!(rows(&world).await, refilled);
    let output = done(&world, "verify").await;
    assert!(output.ends_with("different: 0"), "{output}");
}
