//! Rows with an end: `cassandra.row_ttl` counts from when the publisher took the record, whenever it is written.

use std::collections::BTreeMap;

use cdrs_tokio::types::ByName as _;
use testkit::kafka_client::Outgoing;
use uuid::Uuid;

use crate::support::commands::{new_ids, run_command, run_successfully, stop, write_timestamps};
use crate::support::test_env::{TestEnv, outgoing};

/// All columns that have a value and are no key.
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

fn now() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
}

/// A record that the publisher took so many seconds ago.
fn taken(seconds_ago: i64, id: Uuid, name: &str) -> Outgoing {
    let micros = (now() - seconds_ago) * 1_000_000;
    Outgoing {
        headers: vec![("accepted-at-us".to_owned(), micros.to_string().into_bytes())],
        ..outgoing(id, name)
    }
}

/// What is left of each user's row, in seconds: the same in every column but for one, since a second may pass between.
async fn left(env: &TestEnv) -> BTreeMap<Uuid, i32> {
    let columns = COLUMNS
        .map(|column| format!("TTL({column}) AS {column}"))
        .join(", ");
    let ask = format!("SELECT id, {columns} FROM {{ks}}.created_users");
    let rows = env.cassandra.run(&ask).await.unwrap();
    rows.iter()
        .map(|row| {
            let each = COLUMNS.map(|column| row.by_name::<i32>(column).unwrap().unwrap());
            assert!(
                each.iter().all(|seconds| seconds.abs_diff(each[0]) <= 1),
                "{each:?}"
            );
            (row.by_name("id").unwrap().unwrap(), each[0])
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_ttl_counts_from_acceptance_across_rewrites() {
    let env = TestEnv::new("ttl", 1).await;
    let options = env.options().set("cassandra.row_ttl", "1h");
    let mut streamer = env.start(&options).await;
    let ids = new_ids(5);
    let [fresh, half, past, outlived, doubled] = [ids[0], ids[1], ids[2], ids[3], ids[4]];
    let duplicate = taken(600, doubled, "twice");
    let records = [
        taken(0, fresh, "fresh"),
        taken(1_800, half, "half"),
        taken(4_000, past, "past"),
        // Its newer version is past it, and what is past it is gone, not what was before it.
        taken(0, outlived, "older"),
        taken(7_200, outlived, "newer"),
        duplicate.clone(),
        duplicate,
    ];
    env.kafka.write(&env.topic, &records).await.unwrap();
    env.wait_until_caught_up().await;
    let started = now();
    let first = left(&env).await;
    assert_eq!(
        first.keys().copied().collect::<std::collections::BTreeSet<_>>(),
        [fresh, half, doubled].into_iter().collect()
    );
    for (id, most) in [(fresh, 3_600), (half, 1_800), (doubled, 3_000)] {
        assert!(
            (most - 60..=most).contains(&first[&id]),
            "{id}: {} of {most}",
            first[&id]
        );
    }
    let written = write_timestamps(&env).await;
    assert_eq!(
        streamer.metric("streamer_expired_total", "").await.unwrap(),
        Some(2.0)
    );
    assert_eq!(
        streamer
            .metric("streamer_rows_total", "change=\"delete\"")
            .await
            .unwrap(),
        Some(2.0)
    );
    let (code, output) = run_command(options.clone(), "verify").await;
    assert_eq!(code, Some(0), "{output}");

    // A replay prolongs nothing and changes no write timestamp.
    stop(&mut streamer).await;
    run_successfully(&env, "replay --from-offset 0 --yes").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    streamer.spawn().unwrap();
    env.wait_until_caught_up().await;
    let again = left(&env).await;
    let elapsed = i32::try_from(now() - started).unwrap();
    assert_eq!(again.len(), 3);
    for (id, seconds) in &again {
        assert!(*seconds <= first[id], "{id}: {seconds} s after {} s", first[id]);
        assert!(
            *seconds >= first[id] - elapsed - 2,
            "{id}: {seconds} s after {} s",
            first[id]
        );
    }
    assert_eq!(write_timestamps(&env).await, written);

    // Without an end configured they would be there, and that is what is told.
    let (code, output) = run_command(env.options(), "verify").await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("different: 2"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redriven_row_keeps_its_original_expiry() {
    let env = TestEnv::new("ttlletters", 1).await;
    let _streamer = env.start(&env.options().set("cassandra.row_ttl", "1h")).await;
    let ids = new_ids(2);
    let letter = |offset: i64, record: Outgoing| {
        let mut letter = record;
        let stamp = (now() - 60) * 1_000_000;
        let headers = [
            ("dlq-reason", "by_an_older_streamer".to_owned()),
            ("dlq-error", "so it seemed".to_owned()),
            ("dlq-topic", env.topic.clone()),
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
    let letters = [
        letter(0, taken(1_800, ids[0], "half")),
        letter(1, taken(3_700, ids[1], "past")),
    ];
    env.kafka.write(&env.dead_letter_topic(), &letters).await.unwrap();
    let (code, output) = run_command(env.options().set("cassandra.row_ttl", "1h"), "redrive").await;
    assert_eq!(code, Some(0), "{output}");
    let left = left(&env).await;
    assert_eq!(left.keys().collect::<Vec<_>>(), [&ids[0]]);
    assert!((1_700..=1_800).contains(&left[&ids[0]]), "{left:?}");
}
