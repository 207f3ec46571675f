//! Dead letters that are larger than their topic takes, and names of headers that are not text.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::kafka::headers::insert;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord};
use testkit::kafka_client::ProducerRecord;
use uuid::Uuid;

use crate::pipeline::dead_letter_limits::{garbage, in_partition, users_in, wait_for_halt_reason};
use crate::support::commands::run_successfully;
use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users, outgoing, record};

fn admin(env: &TestEnv) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", env.bootstrap())
        .create()
        .unwrap()
}

async fn create_topic(env: &TestEnv, name: &str, max_message_bytes: &str) {
    let topic =
        NewTopic::new(name, 1, TopicReplication::Fixed(1)).set("max.message.bytes", max_message_bytes);
    let created = admin(env).create_topics([&topic], &AdminOptions::new()).await;
    created.unwrap().pop().unwrap().unwrap();
}

async fn max_message_bytes(env: &TestEnv, topic: &str) -> usize {
    let name = ResourceSpecifier::Topic(topic);
    let described = admin(env).describe_configs([&name], &AdminOptions::new()).await;
    let config = described.unwrap().pop().unwrap().unwrap();
    let value = config.get("max.message.bytes").unwrap().value.clone();
    value.unwrap().parse().unwrap()
}

/// Text that does not compress below half of its length.
fn noise(length: usize) -> Vec<u8> {
    (0..length.div_ceil(32))
        .flat_map(|_| Uuid::new_v4().simple().to_string().into_bytes())
        .take(length)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_that_does_not_fit_lacks_its_value_and_says_so() {
    let env = TestEnv::new("letters", 1).await;
    create_topic(&env, &env.dead_letter_topic(), "3000").await;
    let large_value = ProducerRecord {
        key: Some(b"k".to_vec()),
        value: Some(noise(20_000)),
        headers: vec![("origin".to_owned(), b"elsewhere".to_vec())],
        ..ProducerRecord::default()
    };
    let large_header = ProducerRecord {
        headers: vec![("large".to_owned(), noise(20_000))],
        ..large_value.clone()
    };
    let small = ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..large_value.clone()
    };
    let good = new_users(1)[0].0;
    let records = [large_value, large_header, small, outgoing(good, "good")];
    env.kafka.write(&env.topic, &records).await.unwrap();
    let _streamer = env.streamer().await;
    env.wait_until_caught_up().await;

    assert_eq!(env.users().await.into_keys().collect::<Vec<_>>(), [good]);
    let letters = env.kafka.read(&env.dead_letter_topic()).await.unwrap();
    let by_offset: BTreeMap<_, _> = letters
        .iter()
        .map(|letter| (letter.header("dlq-offset").unwrap(), letter))
        .collect();
    let [value, header, small] = ["0", "1", "2"].map(|offset| by_offset[offset]);
    assert_eq!(
        (value.header("dlq-omitted"), &value.value),
        (Some("value"), &None)
    );
    assert_eq!(value.key.as_deref(), Some(b"k".as_slice()));
    assert_eq!(value.header("origin"), Some("elsewhere"));
    assert_eq!(header.header("dlq-omitted"), Some("key, headers, value"));
    assert_eq!((&header.key, &header.value), (&None, &None));
    assert_eq!(small.header("dlq-omitted"), None);
    assert_eq!(small.value.as_deref(), Some(b"garbage".as_slice()));

    let output = run_successfully(&env, "redrive").await;
    assert!(
        output.contains("lacks value") && output.contains("still rejected: 3"),
        "{output}"
    );
    assert_eq!(
        env.users().await.len(),
        1,
        "a letter without its value deletes nothing"
    );
}

/// The topic is smaller than a dead letter without its record's content.
#[tokio::test(flavor = "multi_thread")]
async fn refused_dead_letter_halts_only_its_partition() {
    let env = TestEnv::new("refused", 2).await;
    create_topic(&env, &env.dead_letter_topic(), "100").await;
    let mut streamer = env.streamer().await;
    let mut records = users_in(0, 1);
    records.push(in_partition(0, garbage()));
    records.extend(users_in(0, 1));
    records.extend(users_in(1, 2));
    env.kafka.write(&env.topic, &records).await.unwrap();
    let reason = wait_for_halt_reason(&streamer).await;
    for expected in [
        "partition 0 is halted",
        "the dead letter of offset 1",
        "max.message.bytes",
        &env.dead_letter_topic(),
    ] {
        assert!(reason.contains(expected), "{reason}");
    }
    assert_eq!(streamer.get("/readyz").await.unwrap().0, 503);
    // The other partition continues, beside more records of the halted one.
    let records = [users_in(0, 100), users_in(1, 100)].concat();
    env.kafka.write(&env.topic, &records).await.unwrap();
    let checkpoints = async || {
        let found = env.cassandra.checkpoints(&env.topic, &env.topic).await;
        let found = found.map_err(|error| error.to_string())?;
        Ok::<_, String>([0, 1].map(|partition| found.get(&partition).map_or(0, |it| it.next_offset)))
    };
    eventually("the other partition is written to its end", async || {
        let [halted, other] = checkpoints().await?;
        assert!(
            halted <= 1,
            "no checkpoint passes the refused dead letter: {halted}"
        );
        match other {
            102 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    let (status, body) = streamer.get("/healthz").await.unwrap();
    assert_eq!(status, 200, "a restart would not help: {body}");
    // Its partitions are released at once.
    let started = Instant::now();
    assert_eq!(streamer.terminate(DEADLINE).await.unwrap(), Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );

    let name = env.dead_letter_topic();
    let topic = ("topics", &*name);
    env.alter_config(topic, &["--add-config", "max.message.bytes=1000000"])
        .await;
    streamer.spawn().unwrap();
    env.wait_until_caught_up().await;
    let letters = env.kafka.read(&name).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].value.as_deref(), Some(b"garbage".as_slice()));
    assert_eq!(env.users().await.len(), 204);
}

/// A record fits into its topic because its producer compresses it.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_of_a_compressed_record_fits_whole() {
    const LENGTH: usize = 2_800_000;
    let env = TestEnv::new("compressed", 1).await;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", env.bootstrap())
        .set("compression.type", "zstd")
        .set("message.max.bytes", "10000000")
        .create()
        .unwrap();
    let value = b"not a user, ".repeat(LENGTH / 12);
    let record = FutureRecord::to(&env.topic).key("k").payload(&value);
    producer.send(record, DEADLINE).await.unwrap();
    let _streamer = env.streamer().await;
    env.wait_until_caught_up().await;
    let letters = env.kafka.read(&env.dead_letter_topic()).await.unwrap();
    assert_eq!(letters[0].header("dlq-omitted"), None);
    assert_eq!(letters[0].value.as_deref(), Some(&*value));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_topic_takes_what_the_topic_takes() {
    let env = TestEnv::without_topic("sizes").await;
    create_topic(&env, &env.topic, "3000000").await;
    let _streamer = env.streamer().await;
    assert!(max_message_bytes(&env, &env.dead_letter_topic()).await > 3_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_name_that_is_not_utf8_is_kept() {
    let env = TestEnv::new("names", 1).await;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", env.bootstrap())
        .create()
        .unwrap();
    let id = Uuid::new_v4();
    for value in [record(id, "x"), b"garbage".to_vec()] {
        let headers = insert(OwnedHeaders::new(), (b"caf\xe9", Some(b"1")));
        let record = FutureRecord::to(&env.topic)
            .key("k")
            .payload(&value)
            .headers(headers);
        producer.send(record, DEADLINE).await.unwrap();
    }
    let _streamer = env.streamer().await;
    env.wait_until_caught_up().await;
    assert!(env.users().await.contains_key(&id));
    let shown = run_successfully(&env, "dead-letters show 0:1").await;
    assert!(shown.contains(r"header      (binary) caf\xe9: 1"), "{shown}");
}
