//! Start offsets and checkpoints.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use testkit::kafka_client::ProducerRecord;
use testkit::process::Signal;
use uuid::Uuid;

use crate::support::commands::run_successfully;
use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users, outgoing, record};
use crate::support::traffic::metric;

#[tokio::test(flavor = "multi_thread")]
async fn restart_continues_at_checkpoint() {
    let env = TestEnv::new("restart", 3).await;
    let mut streamer = env.streamer().await;
    env.write(&new_users(300)).await;
    env.wait_until_caught_up().await;
    assert_eq!(streamer.terminate(DEADLINE).await.unwrap(), Some(0));
    env.write(&new_users(50)).await;
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    env.wait_until_caught_up().await;
    assert_eq!(
        streamer.metric("streamer_records_total", "").await.unwrap(),
        Some(50.0)
    );
    env.assert_table_matches_topic().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_checkpoint_rereads_topic_and_changes_no_row() {
    let env = TestEnv::new("wiped", 1).await;
    let mut streamer = env.streamer().await;
    let id = Uuid::new_v4();
    env.write(&[(id, "old"), (id, "new")]).await;
    env.wait_until_caught_up().await;
    streamer.terminate(DEADLINE).await.unwrap();
    env.cassandra
        .run("TRUNCATE {ks}.stream_checkpoints")
        .await
        .unwrap();
    streamer.spawn().unwrap();
    env.wait_until_caught_up().await;
    assert_eq!(
        streamer.metric("streamer_records_total", "").await.unwrap(),
        Some(2.0)
    );
    assert_eq!(env.users().await[&id]["first_name"], "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_skips_old_records_but_none_after_early_kill() {
    let env = TestEnv::new("latest", 1).await;
    env.write(&new_users(3)).await;
    let mut streamer = env
        .start(&env.options().set("checkpoint.on_missing", "latest"))
        .await;
    env.wait_until_caught_up().await;
    streamer.kill().await.unwrap();
    let later = new_users(2);
    env.write(&later).await;
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    env.wait_until_caught_up().await;
    let users = env.users().await;
    assert_eq!(
        users.keys().copied().collect::<std::collections::BTreeSet<_>>(),
        later.iter().map(|it| it.0).collect()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_markers_and_aborted_records_leave_no_lag() {
    let env = TestEnv::new("markers", 1).await;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", env.bootstrap())
        .set("transactional.id", &env.topic)
        .create()
        .unwrap();
    let (topic, committed, aborted) = (env.topic.clone(), Uuid::new_v4(), Uuid::new_v4());
    tokio::task::spawn_blocking(move || {
        producer.init_transactions(DEADLINE).unwrap();
        for (id, commit) in [(committed, true), (aborted, false)] {
            producer.begin_transaction().unwrap();
            let (key, value) = (id.to_string(), record(id, "x"));
            producer
                .send(BaseRecord::to(&topic).key(&key).payload(&value))
                .map_err(|(error, _)| error)
                .unwrap();
            producer.flush(DEADLINE).unwrap();
            if commit {
                producer.commit_transaction(DEADLINE).unwrap();
            } else {
                producer.abort_transaction(DEADLINE).unwrap();
            }
        }
    })
    .await
    .unwrap();
    let _streamer = env.streamer().await;
    env.wait_until_caught_up().await;
    assert_eq!(env.users().await.into_keys().collect::<Vec<_>>(), [committed]);
}

/// A backlog of another partition must not hide the proof of an end, which is given once.
#[tokio::test(flavor = "multi_thread")]
async fn transaction_marker_leaves_no_lag_beside_a_backlog() {
    const STALL_TIMEOUT: &str = "2s";
    let env = TestEnv::new("beside", 2).await;
    let options = env
        .options()
        .set("cassandra.max_rows_per_second", "50")
        .set("batch.max_rows", "10")
        .set("batch.max_in_flight", "1")
        .set("kafka.probe_interval", "500ms")
        .set("checkpoint.stall_timeout", STALL_TIMEOUT);
    let streamer = env.start(&options).await;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", env.bootstrap())
        .set("transactional.id", &env.topic)
        .create()
        .unwrap();
    let topic = env.topic.clone();
    tokio::task::spawn_blocking(move || {
        producer.init_transactions(DEADLINE).unwrap();
        producer.begin_transaction().unwrap();
        let id = Uuid::new_v4();
        let (key, value) = (id.to_string(), record(id, "x"));
        let record = BaseRecord::to(&topic).key(&key).payload(&value).partition(0);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.commit_transaction(DEADLINE).unwrap();
    })
    .await
    .unwrap();
    let next_offset = async |partition: i32| {
        let found = env.cassandra.checkpoints(&env.topic, &env.topic).await;
        let found = found.map_err(|error| error.to_string())?;
        Ok::<_, String>(found.get(&partition).map_or(0, |it| it.next_offset))
    };
    eventually("the record is a row", async || match next_offset(0).await? {
        1 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let backlog: Vec<_> = (0..1_500)
        .map(|_| ProducerRecord {
            partition: Some(1),
            ..outgoing(Uuid::new_v4(), "x")
        })
        .collect();
    env.kafka.write(&env.topic, &backlog).await.unwrap();
    eventually("the marker is passed while the backlog is written", async || {
        assert!(next_offset(1).await? < 1_500, "the backlog ended first");
        match next_offset(0).await? {
            2 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    // Twice the stall timeout, still beside the backlog: a partition without lag does not stall.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let (status, body) = streamer.get("/healthz").await.unwrap();
        assert_eq!(status, 200, "{body}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A record that arrives at the end of a partition does not wait for the backlog of the other.
    let late = ProducerRecord {
        partition: Some(0),
        ..outgoing(Uuid::new_v4(), "x")
    };
    env.kafka.write(&env.topic, &[late]).await.unwrap();
    eventually("the late record is a row", async || {
        match next_offset(0).await? {
            3 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    assert!(next_offset(1).await.unwrap() < 1_500, "the backlog ended first");
}

/// A deletion by hand hides all later checkpoints, since its write timestamp is above theirs.
#[tokio::test(flavor = "multi_thread")]
async fn checkpoint_deleted_beside_a_member_is_noticed() {
    let env = TestEnv::new("deleted", 1).await;
    let streamer = env
        .start(&env.options().set("checkpoint.read_back_interval", "1s"))
        .await;
    env.write(&new_users(5)).await;
    env.wait_until_caught_up().await;
    let delete = "DELETE FROM {ks}.stream_checkpoints WHERE group_id = '{group}' AND topic = '{group}'";
    env.cassandra
        .run(&delete.replace("{group}", &env.topic))
        .await
        .unwrap();
    let until = Instant::now() + DEADLINE;
    let mut code = None;
    while code.is_none() && Instant::now() < until {
        env.write(&new_users(1)).await;
        code = streamer.wait(Duration::from_millis(300)).await.ok().flatten();
    }
    assert_eq!(code, Some(1));
    assert!(streamer.last_lines(5).contains("not read back"));
}

/// The server refuses what would expire beyond its range. At a shutdown the write is retried with pauses.
#[tokio::test(flavor = "multi_thread")]
async fn refused_checkpoints_are_an_outage_with_pauses() {
    const TWENTY_YEARS: &str = "630720000";
    let env = TestEnv::new("refusedsave", 1).await;
    let streamer = env.streamer().await;
    env.write(&new_users(5)).await;
    env.wait_until_caught_up().await;
    let expire_after = async |seconds: &str| {
        let alter = format!("ALTER TABLE {{ks}}.stream_checkpoints WITH default_time_to_live = {seconds}");
        env.cassandra.run(&alter).await.unwrap();
    };
    expire_after(TWENTY_YEARS).await;
    env.write(&new_users(5)).await;
    eventually("readiness reports the refusal", async || {
        let (status, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        if status == 503 && body.contains("cassandra refuses checkpoints") {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
    assert_eq!(env.users().await.len(), 10);
    assert_eq!(env.checkpoint_sum().await, 5);
    assert_eq!(streamer.get("/healthz").await.unwrap().0, 200);

    let failed = async || metric(&streamer, "streamer_checkpoints_total", "failed").await;
    streamer.signal(Signal::SIGTERM).unwrap();
    let before = failed().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let attempts = failed().await - before;
    expire_after("0").await;
    assert_eq!(streamer.wait(DEADLINE).await.unwrap(), Some(0));
    assert!((1.0..20.0).contains(&attempts), "{attempts} attempts in 2 s");
    assert_eq!(env.checkpoint_sum().await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn recreated_topic_is_read_from_start_and_wins() {
    let env = TestEnv::new("recreated", 1).await;
    let streamer = env.streamer().await;
    // This test creates the topic, too, with a broker's defaults.
    let differences = || streamer.last_lines(1_000).matches("topic differs").count();
    let known = differences();
    let id = Uuid::new_v4();
    env.write(&[
        (id, "old"),
        (Uuid::new_v4(), "other"),
        (Uuid::new_v4(), "another"),
    ])
    .await;
    env.wait_until_caught_up().await;
    let before = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap()[&0];

    env.delete_topic().await;
    env.create_topic(&env.topic, 1).await;
    // More records than before, so that the old offset also exists in the new topic.
    let records: Vec<_> = std::iter::once(outgoing(id, "new"))
        .chain((0..5).map(|_| outgoing(Uuid::new_v4(), "x")))
        .collect();
    env.fresh_kafka_client()
        .write(&env.topic, &records)
        .await
        .unwrap();
    eventually("the new topic is read from the start", async || {
        let checkpoint = env
            .cassandra
            .checkpoints(&env.topic, &env.topic)
            .await
            .map_err(|error| error.to_string())?[&0];
        if checkpoint.topic_id != before.topic_id && checkpoint.next_offset == 6 {
            Ok(())
        } else {
            Err(format!("{checkpoint:?}"))
        }
    })
    .await;
    assert_eq!(env.users().await[&id]["first_name"], "new");
    assert!(differences() > known, "the new topic is compared, too");
    assert!(
        streamer
            .metric("streamer_restarts_total", "")
            .await
            .unwrap()
            .unwrap()
            >= 1.0
    );
}

/// A user may be in another partition of the new topic. Its old row has the write timestamp of a producer whose clock was
/// ahead.
#[tokio::test(flavor = "multi_thread")]
async fn recreated_topic_with_more_partitions_is_read_and_wins() {
    let env = TestEnv::new("repartitioned", 2).await;
    let _streamer = env
        .start(&env.options().set("checkpoint.on_missing", "latest"))
        .await;
    let id = Uuid::new_v4();
    let in_partition = |partition: i32, name: &str, timestamp: i64| ProducerRecord {
        partition: Some(partition),
        timestamp: Some(timestamp),
        ..outgoing(id, name)
    };
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let old = [
        in_partition(0, "older", now),
        in_partition(1, "old", now + 60_000),
    ];
    env.kafka.write(&env.topic, &old).await.unwrap();
    env.wait_until_caught_up().await;

    env.delete_topic().await;
    env.create_topic(&env.topic, 4).await;
    let others = new_users(40);
    let mut records: Vec<_> = others.iter().map(|(id, name)| outgoing(*id, name)).collect();
    records.push(in_partition(3, "new", now));
    env.fresh_kafka_client()
        .write(&env.topic, &records)
        .await
        .unwrap();
    eventually("each partition of the new topic is read", async || {
        match env.checkpoint_sum().await {
            41 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    let users = env.users().await;
    assert_eq!(users[&id]["first_name"], "new");
    assert!(others.iter().all(|(id, _)| users.contains_key(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoint_beyond_end_exits_78_with_offset() {
    let env = TestEnv::new("beyond", 1).await;
    let mut streamer = env.streamer().await;
    env.write(&new_users(5)).await;
    env.wait_until_caught_up().await;
    streamer.terminate(DEADLINE).await.unwrap();
    env
        .cassandra
        .run(&format!(
            "UPDATE {{ks}}.stream_checkpoints SET next_offset = 90 WHERE group_id = '{0}' AND topic = '{0}' AND partition = 0",
            env.topic
        ))
        .await
        .unwrap();
    streamer.spawn().unwrap();
    assert_eq!(streamer.wait(DEADLINE).await.unwrap(), Some(78));
    let log = streamer.last_lines(5);
    assert!(
        log.contains("offset 90") && log.contains("on_out_of_range"),
        "{log}"
    );
}

/// Records after the first one of an open transaction can't be read. They are lag, and no stall.
#[tokio::test(flavor = "multi_thread")]
async fn open_transaction_is_named_as_part_of_the_lag() {
    let env = TestEnv::new("open", 1).await;
    let options = env
        .options()
        .set("kafka.probe_interval", "500ms")
        .set("checkpoint.stall_timeout", "2s");
    let streamer = env.start(&options).await;
    env.write(&new_users(5)).await;
    env.wait_until_caught_up().await;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", env.bootstrap())
        .set("transactional.id", &env.topic)
        .create()
        .unwrap();
    let records: Vec<_> = new_users(7)
        .into_iter()
        .map(|(id, name)| (id.to_string(), record(id, name)))
        .collect();
    let topic = env.topic.clone();
    let producer = tokio::task::spawn_blocking(move || {
        producer.init_transactions(DEADLINE).unwrap();
        producer.begin_transaction().unwrap();
        for (key, value) in &records {
            let sent = producer.send(BaseRecord::to(&topic).key(key).payload(value));
            sent.map_err(|(error, _)| error).unwrap();
        }
        producer.flush(DEADLINE).unwrap();
        producer
    })
    .await
    .unwrap();
    // Committed records behind it can't be read either.
    env.write(&new_users(3)).await;
    let metrics = ["streamer_lag_records", "streamer_open_transaction_records"];
    let expected = async |expected: f64| {
        eventually("the metrics name the records", async || {
            for name in metrics {
                let found = metric(&streamer, name, "").await;
                if (found - expected).abs() > 0.5 {
                    return Err(format!("{name}: {found}, expected {expected}"));
                }
            }
            Ok(())
        })
        .await;
    };
    expected(10.0).await;
    let output = run_successfully(&env, "status").await;
    assert!(
        output.contains("10 records behind an open transaction") && output.contains("lag    10 records"),
        "{output}"
    );
    // Longer than the stall timeout.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (status, body) = streamer.get("/healthz").await.unwrap();
    assert_eq!(status, 200, "{body}");
    tokio::task::spawn_blocking(move || producer.commit_transaction(DEADLINE).unwrap())
        .await
        .unwrap();
    env.wait_until_caught_up().await;
    expected(0.0).await;
}
