//! Expiry of rows: `cassandra.row_ttl` starts when the publisher accepts the record, not when a row is written.

use std::collections::BTreeMap;

use cdrs_tokio::types::ByName as _;
use testkit::kafka_client::ProducerRecord;
use testkit::service::Service;
use uuid::Uuid;

use crate::support::commands::{new_ids, run_command, run_successfully, stop, write_timestamps};
use crate::support::test_env::{COLUMNS, DEADLINE, TestEnv, eventually, outgoing};

fn now() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
}

/// Creates a record that the publisher accepted `seconds_ago`.
fn accepted(seconds_ago: i64, id: Uuid, name: &str) -> ProducerRecord {
    let micros = (now() - seconds_ago) * 1_000_000;
    ProducerRecord {
        headers: vec![("accepted-at-us".to_owned(), micros.to_string().into_bytes())],
        ..outgoing(id, name)
    }
}

/// Returns the remaining time to live of each row, in seconds. Columns may differ by a second, which passes while they
/// are read.
async fn remaining_ttls(env: &TestEnv) -> BTreeMap<Uuid, i32> {
    let columns = COLUMNS
        .map(|column| format!("TTL({column}) AS {column}"))
        .join(", ");
    let query = format!("SELECT id, {columns} FROM {{ks}}.created_users");
    let rows = env.cassandra.run(&query).await.unwrap();
    rows.iter()
        .map(|row| {
            let ttls = COLUMNS.map(|column| row.by_name::<i32>(column).unwrap().unwrap());
            assert!(
                ttls.iter().all(|seconds| seconds.abs_diff(ttls[0]) <= 1),
                "{ttls:?}"
            );
            (row.by_name("id").unwrap().unwrap(), ttls[0])
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_ttl_counts_from_acceptance_across_rewrites() {
    let env = TestEnv::new("ttl", 1).await;
    let options = env.options().set("cassandra.row_ttl", "1h");
    let mut streamer = env.start(&options).await;
    let ids = new_ids(5);
    let [fresh, half, expired, expired_update, repeated] = [ids[0], ids[1], ids[2], ids[3], ids[4]];
    let duplicate = accepted(600, repeated, "twice");
    let records = [
        accepted(0, fresh, "fresh"),
        accepted(1_800, half, "half"),
        accepted(4_000, expired, "expired"),
        // The newer version has expired, so the row is deleted and does not return to the older version.
        accepted(0, expired_update, "older"),
        accepted(7_200, expired_update, "newer"),
        duplicate.clone(),
        duplicate,
    ];
    env.kafka.write(&env.topic, &records).await.unwrap();
    env.wait_until_caught_up().await;
    let started = now();
    let first = remaining_ttls(&env).await;
    assert_eq!(
        first.keys().copied().collect::<std::collections::BTreeSet<_>>(),
        [fresh, half, repeated].into_iter().collect()
    );
    for (id, max) in [(fresh, 3_600), (half, 1_800), (repeated, 3_000)] {
        assert!(
            (max - 60..=max).contains(&first[&id]),
            "{id}: {} of {max}",
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

    // A replay extends no row's life and changes no write timestamp.
    stop(&mut streamer).await;
    run_successfully(&env, "replay --from-offset 0 --yes").await;
    eventually("each row's remaining life is 2 s shorter", async || {
        let now = remaining_ttls(&env).await;
        if first.iter().all(|(id, seconds)| now[id] <= seconds - 2) {
            Ok(())
        } else {
            Err(format!("{now:?}, first {first:?}"))
        }
    })
    .await;
    streamer.spawn().unwrap();
    env.wait_until_caught_up().await;
    let after_replay = remaining_ttls(&env).await;
    let elapsed = i32::try_from(now() - started).unwrap();
    assert_eq!(after_replay.len(), 3);
    for (id, seconds) in &after_replay {
        assert!(*seconds <= first[id], "{id}: {seconds} s after {} s", first[id]);
        assert!(
            *seconds >= first[id] - elapsed - 2,
            "{id}: {seconds} s after {} s",
            first[id]
        );
    }
    assert_eq!(write_timestamps(&env).await, written);

    // Without the setting, verify expects the expired rows.
    let (code, output) = run_command(env.options(), "verify").await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("different: 2"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redriven_row_keeps_its_original_expiry() {
    let env = TestEnv::new("ttlletters", 1).await;
    let _streamer = env.start(&env.options().set("cassandra.row_ttl", "1h")).await;
    let ids = new_ids(2);
    let letter = |offset: i64, record: ProducerRecord| {
        let mut letter = record;
        let write_timestamp = (now() - 60) * 1_000_000;
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
    let letters = [
        letter(0, accepted(1_800, ids[0], "half")),
        letter(1, accepted(3_700, ids[1], "expired")),
    ];
    env.kafka.write(&env.dead_letter_topic(), &letters).await.unwrap();
    let (code, output) = run_command(env.options().set("cassandra.row_ttl", "1h"), "redrive").await;
    assert_eq!(code, Some(0), "{output}");
    let remaining = remaining_ttls(&env).await;
    assert_eq!(remaining.keys().collect::<Vec<_>>(), [&ids[0]]);
    assert!((1_700..=1_800).contains(&remaining[&ids[0]]), "{remaining:?}");
}

/// The last instant at which Cassandra lets a row expire, in seconds since 1970.
const LAST_EXPIRATION: i64 = i32::MAX as i64 - 1;

#[tokio::test(flavor = "multi_thread")]
async fn row_ttl_beyond_the_servers_range_exits_78() {
    let env = TestEnv::new("ttl_range", 1).await;
    env.write(&crate::support::test_env::new_users(3)).await;
    let options = env.options().set("cassandra.row_ttl", "131490h");
    let streamer = Service::start(&options).unwrap();
    assert_eq!(streamer.wait(DEADLINE).await.unwrap(), Some(78));
    let log = streamer.last_lines(5);
    assert!(log.contains("cassandra.row_ttl"), "{log}");
}

/// The range ends while the streamer runs: every row is refused from then on, and none of them is at fault.
#[tokio::test(flavor = "multi_thread")]
async fn refusal_of_every_row_is_an_outage_and_no_dead_letter() {
    let env = TestEnv::new("refused", 1).await;
    let ends = now() + 15;
    let row_ttl = format!("{}s", LAST_EXPIRATION - ends);
    let streamer = env.start(&env.options().set("cassandra.row_ttl", row_ttl)).await;
    let [before, after] = new_ids(2)[..] else {
        panic!("two ids")
    };
    env.kafka
        .write(&env.topic, &[accepted(0, before, "before")])
        .await
        .unwrap();
    env.wait_until_caught_up().await;
    eventually("the range has ended", async || {
        if now() > ends + 3 {
            Ok(())
        } else {
            Err(format!("{} s left", ends - now()))
        }
    })
    .await;
    env.kafka
        .write(&env.topic, &[accepted(0, after, "after")])
        .await
        .unwrap();
    eventually("the refusal is reported", async || {
        let (_, text) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        if text.contains("cassandra refuses every row") && text.contains("expiration") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    assert!(env.kafka.read(&env.dead_letter_topic()).await.unwrap().is_empty());
    drop(streamer);
    let _streamer = env.start(&env.options().set("cassandra.row_ttl", "1h")).await;
    env.wait_until_caught_up().await;
    assert!(env.users().await.contains_key(&after));
}
