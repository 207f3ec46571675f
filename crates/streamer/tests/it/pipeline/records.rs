//! The result of each kind of record: a row, a deletion, or a dead letter.

use std::collections::{BTreeMap, BTreeSet};

use cdrs_tokio::types::ByName as _;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use testkit::kafka_client::{ProducerRecord, TopicRecord};
use testkit::process::usage::peak_mib;
use testkit::service::Service;
use uuid::Uuid;

use crate::support::test_env::{TestEnv, eventually, new_users, outgoing, record};
use crate::support::traffic::metric;

#[tokio::test(flavor = "multi_thread")]
async fn record_becomes_row_with_kafka_timestamp() {
    let env = TestEnv::new("rows", 3).await;
    let _streamer = env.streamer().await;
    let id = Uuid::new_v4();
    env.write(&[(id, "Ada")]).await;
    env.wait_until_caught_up().await;
    let row = &env.users().await[&id];
    assert_eq!(row["first_name"], "Ada");
    assert_eq!(row["email"], "Ada@x");
    assert_eq!(row["dob"], "-14182940000");
    assert_eq!(row["registered_date"], "1262304000001");
    assert_eq!(
        row["ingested_at"], "1700000000123",
        "not the time of the publisher's header"
    );
    let query = format!("SELECT WRITETIME(email) AS at FROM {{ks}}.created_users WHERE id = {id}");
    let written = env.cassandra.run(&query);
    let written: i64 = written.await.unwrap()[0].by_name("at").unwrap().unwrap();
    let log = env.kafka.read(&env.topic).await.unwrap();
    assert_eq!(
        written,
        log[0].timestamp.unwrap() * 1_000,
        "not the timestamp of the record in Kafka"
    );
}

/// Python, and so cqlsh, reads no time after the year 9999. Some producers give nanoseconds, or no number.
#[tokio::test(flavor = "multi_thread")]
async fn accepted_at_outside_the_calendar_is_the_time_in_kafka() {
    const LAST_MILLISECOND: i64 = 253_402_300_799_999;
    let env = TestEnv::new("accepted", 1).await;
    let invalid: [&[u8]; 11] = [
        b"1000000000000000000",
        b"1795838693332000000",
        b"253402300800000000",
        b"9223372036854775807",
        b"9223372036854775808",
        b"-1",
        b"-9223372036854775808",
        b"1e15",
        b" 1",
        b"",
        b"\xff\x00",
    ];
    let valid: [(&[u8], i64); 3] = [
        (b"0", 0),
        (b"1700000000123999", 1_700_000_000_123),
        (b"253402300799999999", LAST_MILLISECOND),
    ];
    let headers = invalid.into_iter().chain(valid.map(|(header, _)| header));
    let records: Vec<_> = headers
        .map(|header| ProducerRecord {
            headers: vec![("accepted-at-us".to_owned(), header.to_vec())],
            ..outgoing(Uuid::new_v4(), "x")
        })
        .collect();
    env.kafka.write(&env.topic, &records).await.unwrap();
    let _streamer = env.streamer().await;
    env.wait_until_caught_up().await;

    let log = env.kafka.read(&env.topic).await.unwrap();
    assert_eq!(log.len(), records.len());
    let in_kafka = log[..invalid.len()]
        .iter()
        .map(|record| record.timestamp.unwrap());
    let expected = in_kafka.chain(valid.map(|(_, expected)| expected));
    let users = env.users().await;
    for (record, expected) in log.iter().zip(expected) {
        let id: Uuid = std::str::from_utf8(record.key.as_deref().unwrap())
            .unwrap()
            .parse()
            .unwrap();
        let written: i64 = users[&id]["ingested_at"].parse().unwrap();
        assert_eq!(written, expected, "{:?}", record.header("accepted-at-us"));
        assert!((0..=LAST_MILLISECOND).contains(&written));
    }
    env.assert_no_dead_letters().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_version_in_batch_wins_in_every_column() {
    let env = TestEnv::new("versions", 2).await;
    let ids: Vec<_> = new_users(50).into_iter().map(|(id, _)| id).collect();
    let names: Vec<_> = (0..40).map(|version| format!("v{version}")).collect();
    let records: Vec<_> = names
        .iter()
        .flat_map(|name| ids.iter().map(move |id| outgoing(*id, name)))
        .collect();
    env.kafka.write(&env.topic, &records).await.unwrap();
    let _streamer = env.streamer().await;
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
    for (id, row) in env.users().await {
        assert!(
            row.iter()
                .filter(|(column, _)| **column == "phone")
                .all(|(_, value)| value == "v39"),
            "{id}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_records_become_dead_letters_between_rows() {
    let env = TestEnv::new("bad", 1).await;
    let good = new_users(4);
    let [wrong_key, no_key, kept, deleted] = [good[0].0, good[1].0, good[2].0, good[3].0];
    let garbage = ProducerRecord {
        key: Some(b"k".to_vec()),
        value: Some(vec![0xff, 0, 0xfe]),
        ..ProducerRecord::default()
    };
    let garbage = ProducerRecord {
        headers: vec![("run-id".to_owned(), b"r1".to_vec())],
        ..garbage
    };
    let without_id = ProducerRecord {
        value: Some(br#"{"first_name":"x"}"#.to_vec()),
        ..ProducerRecord::default()
    };
    let invalid_tombstone = ProducerRecord {
        key: Some(b"not an id".to_vec()),
        ..ProducerRecord::default()
    };
    let records = [
        outgoing(deleted, "deleted"),
        garbage,
        ProducerRecord {
            key: Some(Uuid::new_v4().to_string().into_bytes()),
            ..outgoing(wrong_key, "wrong_key")
        },
        without_id,
        ProducerRecord {
            headers: Vec::new(),
            key: None,
            ..outgoing(no_key, "no_key")
        },
        invalid_tombstone,
        ProducerRecord {
            key: Some(deleted.to_string().into_bytes()),
            ..ProducerRecord::default()
        },
        outgoing(kept, "kept"),
    ];
    env.kafka.write(&env.topic, &records).await.unwrap();
    let streamer = env.streamer().await;
    env.wait_until_caught_up().await;

    let users = env.users().await;
    let names: BTreeMap<_, _> = users
        .iter()
        .map(|(id, row)| (*id, row["first_name"].as_str()))
        .collect();
    assert_eq!(
        names,
        BTreeMap::from([(wrong_key, "wrong_key"), (no_key, "no_key"), (kept, "kept")])
    );
    let log = env.kafka.read(&env.topic).await.unwrap();
    assert_eq!(
        users[&no_key]["ingested_at"],
        log[4].timestamp.unwrap().to_string()
    );

    let letters = env.kafka.read(&env.dead_letter_topic()).await.unwrap();
    let letters: BTreeMap<_, _> = letters
        .iter()
        .map(|letter| (letter.header("dlq-offset").unwrap().to_owned(), letter))
        .collect();
    assert_eq!(letters.keys().collect::<Vec<_>>(), ["1", "3", "5"]);
    assert_is_copy_of(letters["1"], &log[1], &env.topic);
    assert_eq!(
        letters["1"].header("run-id"),
        Some("r1"),
        "the original headers are missing"
    );
    assert_is_copy_of(letters["3"], &log[3], &env.topic);
    assert!(letters["3"].header("dlq-error").unwrap().starts_with("id: "));
    assert_is_copy_of(letters["5"], &log[5], &env.topic);
    assert_eq!(letters["5"].header("dlq-reason"), Some("tombstone_without_id"));

    assert_eq!(
        streamer.metric("streamer_dead_letters_total", "").await.unwrap(),
        Some(3.0)
    );
    assert_eq!(
        streamer
            .metric("streamer_partition_mismatch_total", "kind=\"key\"")
            .await
            .unwrap(),
        Some(2.0)
    );
    let found = status(&streamer).await;
    assert!(
        found["rates"]["rows_per_second"].as_f64().unwrap() > 0.0,
        "{found}"
    );
    let letters = &found["dead_letters"];
    let counts = letters["last_24h"].as_object().unwrap().values();
    assert_eq!(
        counts.map(|count| count.as_u64().unwrap()).sum::<u64>(),
        3,
        "{letters}"
    );
    // In the order in which Kafka acknowledged them: micro-batches are written at once.
    let newest = letters["newest"].as_array().unwrap().iter();
    let newest: BTreeSet<_> = newest.map(|letter| letter["offset"].as_u64().unwrap()).collect();
    assert_eq!(newest, BTreeSet::from([1, 3, 5]), "{letters}");
    eventually("the status reports lag 0", async || {
        match status(&streamer).await["lag"] {
            ref lag
                if *lag
                    == json!({"total": 0, "partitions": [{"partition": 0, "lag": 0, "halted": null}]}) =>
            {
                Ok(())
            }
            ref lag => Err(lag.to_string()),
        }
    })
    .await;
}

/// The document of `GET /status`.
async fn status(streamer: &Service) -> Value {
    let (status, body) = streamer.get("/status").await.unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn assert_is_copy_of(letter: &TopicRecord, original: &TopicRecord, topic: &str) {
    assert_eq!((&letter.key, &letter.value), (&original.key, &original.value));
    assert_eq!(letter.header("dlq-topic"), Some(topic));
    assert_eq!(
        letter.header("dlq-partition"),
        Some(original.partition.to_string().as_str())
    );
    assert!(Uuid::parse_str(letter.header("dlq-topic-id").unwrap()).is_ok_and(|id| !id.is_nil()));
    assert!(
        letter
            .header("dlq-write-timestamp")
            .unwrap()
            .parse::<i64>()
            .unwrap()
            > 0
    );
    assert!(letter.headers.contains_key("dlq-at") && letter.headers.contains_key("dlq-reason"));
}

#[tokio::test(flavor = "multi_thread")]
async fn integer_post_code_and_unknown_field_become_row() {
    let env = TestEnv::new("original", 1).await;
    let id = Uuid::new_v4();
    let value = String::from_utf8(record(id, "x")).unwrap();
    let value = value.replace(
        r#""post_code":"x""#,
        r#""post_code":10115,"added_later":{"a":[1]}"#,
    );
    let record = ProducerRecord {
        key: None,
        value: Some(value.into_bytes()),
        ..ProducerRecord::default()
    };
    env.kafka.write(&env.topic, &[record]).await.unwrap();
    let _streamer = env.streamer().await;
    env.wait_until_caught_up().await;
    assert_eq!(env.users().await[&id]["post_code"], "10115");
}

/// The server warns above `batch_size_warn_threshold`, 5 KiB by its own calculation.
#[tokio::test(flavor = "multi_thread")]
async fn backlog_batches_stay_below_server_warning_size() {
    let env = TestEnv::new("lengths", 6).await;
    let names: Vec<_> = (1..200).map(|length| "x".repeat(length)).collect();
    let users: Vec<_> = (0..8_000)
        .map(|number| (Uuid::new_v4(), names[number % names.len()].as_str()))
        .collect();
    env.write(&users).await;
    let streamer = env.streamer().await;
    env.assert_nothing_lost_or_rejected().await;
    let (batches, rows) = (
        metric(&streamer, "streamer_batch_rows_count", "").await,
        metric(&streamer, "streamer_batch_rows_sum", "").await,
    );
    assert!(
        rows / batches > 20.0,
        "too few rows per micro-batch: {rows} in {batches}"
    );
    assert_eq!(env.server_warnings(), Vec::<String>::new());
}

/// Writes `count` copies of a record as one zstd batch.
async fn write_one_batch(env: &TestEnv, partition: i32, value: Vec<u8>, count: usize) {
    let size = (value.len() * count * 2).to_string();
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", env.bootstrap())
        .set("compression.type", "zstd")
        .set("linger.ms", "10000")
        .set("batch.num.messages", count.to_string())
        .set("batch.size", &size)
        .set("message.max.bytes", &size)
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "1000000")
        .create()
        .unwrap();
    let deliveries = (0..count).map(|_| {
        let record = FutureRecord::<str, _>::to(&env.topic)
            .partition(partition)
            .payload(&value);
        producer.send_result(record).map_err(|(error, _)| error).unwrap()
    });
    for delivery in deliveries.collect::<Vec<_>>() {
        delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
    }
}

/// Three buffers of the limit, 128 MiB each, and what else the streamer needs. One is being unpacked, one holds records that are
/// read, and one belongs to the consumer that looks for the partition that can't be read. The manifests allow 512.
const MAX_PEAK_MIB: f64 = 3.0 * 128.0 + 96.0;

/// librdkafka unpacks a batch into a buffer that grows threefold until it fits. For 39 MB it has 102 MB, above its default limit.
/// Whether one of 100 MB fits below ours depends on its compressed size.
#[tokio::test(flavor = "multi_thread")]
async fn batch_of_39_mb_is_read_and_a_larger_one_halts_its_partition() {
    let env = TestEnv::new("unpacked", 4).await;
    let id = Uuid::new_v4();
    let value = record(id, &"x".repeat(490));
    let streamer = env.streamer().await;
    let write = async |partition, bytes: usize| {
        write_one_batch(&env, partition, value.clone(), bytes / value.len()).await;
    };
    write(0, 39_000_000).await;
    env.wait_until_caught_up().await;
    assert!(env.users().await.contains_key(&id));

    write(1, 150_000_000).await;
    eventually("the partition is halted with its reason", async || {
        is_halted(&streamer, 1).await
    })
    .await;
    write(2, 100_000_000).await;
    let end = env.kafka.end_offsets(&env.topic).await.unwrap()[&2];
    eventually("the partition is halted or read", async || {
        let checkpoints = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap();
        match checkpoints.get(&2) {
            Some(checkpoint) if checkpoint.next_offset == end => Ok(()),
            _ => is_halted(&streamer, 2).await,
        }
    })
    .await;

    let other = Uuid::new_v4();
    let elsewhere = ProducerRecord {
        partition: Some(3),
        ..outgoing(other, "elsewhere")
    };
    env.kafka.write(&env.topic, &[elsewhere]).await.unwrap();
    eventually("the other partitions are read", async || {
        if env.users().await.contains_key(&other) {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    assert_eq!(streamer.get("/healthz").await.unwrap().0, 200);
    let peak = peak_mib(streamer.child().unwrap().pid()).unwrap();
    println!("at most {peak:.0} MiB");
    assert!(peak < MAX_PEAK_MIB, "{peak} MiB");
}

/// Together the batches take more memory than the manifests allow, so not every partition may hold one at a time.
#[tokio::test(flavor = "multi_thread")]
async fn large_batches_of_many_partitions_are_unpacked_in_turn() {
    let env = TestEnv::new("large", 10).await;
    let id = Uuid::new_v4();
    let value = record(id, &"x".repeat(490));
    for partition in 0..10 {
        write_one_batch(&env, partition, value.clone(), 50_000_000 / value.len()).await;
    }
    let streamer = env.streamer().await;
    env.wait_until_caught_up().await;
    assert!(env.users().await.contains_key(&id));
    let peak = peak_mib(streamer.child().unwrap().pid()).unwrap();
    println!("at most {peak:.0} MiB");
    assert!(peak < MAX_PEAK_MIB, "{peak} MiB");
}

/// Fails with the readiness while the partition is not halted for a batch that is too large.
async fn is_halted(streamer: &Service, partition: i32) -> Result<(), String> {
    let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
    let halted = format!("partition {partition} is halted: the records at offset 0 can't be read");
    if body.contains(&halted) && body.contains("receive_message_max_bytes") {
        Ok(())
    } else {
        Err(body)
    }
}
