//! The commands `dead-letters` and `redrive`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::kafka_client::ProducerRecord;
use uuid::Uuid;

use crate::support::commands::{
    an_hour_ago, assert_verified, new_ids, rows, run_command, run_successfully, stop, tombstone,
    write_timestamps,
};
use crate::support::test_env::{TestEnv, new_users, outgoing};

#[tokio::test(flavor = "multi_thread")]
async fn redriven_dead_letter_does_not_beat_later_records() {
    let env = TestEnv::new("redrive", 1).await;
    let rejecting = env.options().set("tombstones", "dead_letter");
    let _streamer = env.start(&rejecting).await;
    let ids = new_ids(2);
    let records = [
        outgoing(ids[0], "gone"),
        outgoing(ids[1], "old"),
        tombstone(ids[0]),
        tombstone(ids[1]),
        outgoing(ids[1], "new"),
    ];
    env.kafka.write(&env.topic, &records).await.unwrap();
    env.wait_until_caught_up().await;
    let before = rows(&env).await;
    assert_eq!(before.0.len(), 2);

    let listed = run_successfully(&env, "dead-letters list --json").await;
    let mut listed: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    listed.sort_by_key(|it| it["offset"].as_i64());
    let positions: Vec<_> = listed
        .iter()
        .map(|it| (&it["partition"], &it["offset"]))
        .collect();
    assert_eq!(positions, [(&json!(0), &json!(2)), (&json!(0), &json!(3))]);
    assert_eq!(listed[0]["reason"], "tombstone");
    let listed = run_successfully(&env, "dead-letters list").await;
    assert!(listed.ends_with("dead letters: 2, tombstone: 2"), "{listed}");
    let shown = run_successfully(&env, "dead-letters show 0:3").await;
    assert!(
        shown.contains(&ids[1].to_string()) && shown.contains("value       (null)"),
        "{shown}"
    );
    let (code, output) = run_command(env.options(), "dead-letters show 0:4").await;
    assert_eq!(code, Some(1), "{output}");

    // The same configuration rejects them again.
    let (code, output) = run_command(rejecting, "redrive").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("written: 0, still rejected: 2"), "{output}");
    let output = run_successfully(&env, "redrive --dry-run").await;
    assert!(
        output.contains("0:2              would be written") && output.contains("written: 1"),
        "{output}"
    );
    assert!(
        output.contains("0:3              is superseded by the later record 0:4 of the same row or key"),
        "{output}"
    );
    assert_eq!(rows(&env).await, before);
    let output = run_successfully(&env, "redrive --reason missing").await;
    assert!(output.contains("written: 0, still rejected: 0"), "{output}");

    // The command may run next to a streamer.
    for _ in 0..2 {
        let output = run_successfully(&env, "redrive").await;
        assert!(output.contains("0:2              written"), "{output}");
        assert!(
            output.contains("written: 1, still rejected: 0, too old: 0, superseded: 1"),
            "{output}"
        );
        let after = rows(&env).await;
        assert_eq!(after.0, BTreeMap::from([(ids[1], before.0[&ids[1]].clone())]));
        assert_eq!(after.1[&ids[1]], before.1[&ids[1]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redrive_keeps_write_timestamp_within_gc_grace() {
    let env = TestEnv::new("letters", 1).await;
    let _streamer = env.streamer().await;
    env.write(&new_users(1)).await;
    env.wait_until_caught_up().await;
    env.cassandra.run("TRUNCATE {ks}.created_users").await.unwrap();
    env.cassandra
        .run("ALTER TABLE {ks}.created_users WITH gc_grace_seconds = 3600")
        .await
        .unwrap();
    let micros = an_hour_ago() * 1_000;
    let letter = |offset: i64, id: Uuid, write_timestamp: i64| {
        let mut letter = outgoing(id, "letter");
        let headers = [
            ("dlq-reason", "by_an_older_streamer".to_owned()),
            ("dlq-error", "an error".to_owned()),
            ("dlq-topic", env.topic.clone()),
            ("dlq-partition", "0".to_owned()),
            ("dlq-topic-id", Uuid::from_u128(7).to_string()),
            ("dlq-offset", offset.to_string()),
            ("dlq-write-timestamp", write_timestamp.to_string()),
            ("dlq-at", "2100-01-01T00:00:00Z".to_owned()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.into_bytes()));
        letter.headers.extend(headers);
        letter
    };
    let ids = new_ids(3);
    let minutes = |count: i64| count * 60_000_000;
    let letters = [
        letter(0, ids[0], micros + minutes(30)),
        letter(1, ids[1], micros - 1),
        // Two letters of one record, the second from a replay.
        letter(2, ids[2], micros + minutes(30)),
        letter(2, ids[2], micros + minutes(20)),
        outgoing(ids[0], "not a letter"),
    ];
    env.kafka.write(&env.dead_letter_topic(), &letters).await.unwrap();
    let output = run_successfully(&env, "redrive --limit 1").await;
    assert!(
        output.contains("written: 1,") && output.contains("over the limit: 1"),
        "{output}"
    );
    let output = run_successfully(&env, "redrive").await;
    assert!(
        output.contains("written: 2,")
            && output.contains("too old: 1")
            && output.contains("0:1              is older"),
        "{output}"
    );
    assert_eq!(
        write_timestamps(&env).await,
        BTreeMap::from([(ids[0], micros + minutes(30)), (ids[2], micros + minutes(30))])
    );
    assert_eq!(env.users().await[&ids[0]]["ingested_at"], "1700000000123");
    let listed = run_successfully(&env, "dead-letters list").await;
    assert!(
        listed.contains("dead letters: 3") && listed.ends_with("records that are not dead letters: 1"),
        "{listed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redrive_does_not_override_refilled_table() {
    let env = TestEnv::new("refilled", 1).await;
    let rejecting = env.options().set("tombstones", "dead_letter");
    let mut streamer = env.start(&rejecting).await;
    let ids = new_ids(3);
    let base = an_hour_ago();
    let at = |minutes: i64, record: ProducerRecord| ProducerRecord {
        timestamp: Some(base + minutes * 60_000),
        ..record
    };
    // The last records have timestamps that are half an hour older.
    for record in [
        at(30, outgoing(ids[0], "first")),
        at(30, tombstone(ids[1])),
        at(30, tombstone(ids[0])),
        at(0, outgoing(ids[1], "last")),
        at(0, outgoing(ids[2], "other")),
    ] {
        env.kafka.write(&env.topic, &[record]).await.unwrap();
    }
    env.wait_until_caught_up().await;
    stop(&mut streamer).await;
    env.cassandra.run("DROP TABLE {ks}.created_users").await.unwrap();
    run_successfully(&env, "replay --from-offset 3 --yes").await;
    let _streamer = env.start(&rejecting).await;
    env.wait_until_caught_up().await;
    let refilled = rows(&env).await;
    assert_eq!(
        refilled.1[&ids[1]],
        base * 1_000,
        "the write timestamp is below the letter's"
    );
    let output = run_successfully(&env, "redrive").await;
    assert!(
        output.contains("written: 1,") && output.contains("superseded: 1"),
        "{output}"
    );
    assert_eq!(rows(&env).await, refilled);
    assert_verified(env.options()).await;
}
