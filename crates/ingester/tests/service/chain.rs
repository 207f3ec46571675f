//! The real publisher over real Kafka: the counts are what the topic holds, whatever happens to the publisher.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use ingester::memory::Memory;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use testbed::process::{Child, Program};
use testbed::randomuser::{Options, RandomUserApi};
use testbed::servers::{KafkaCluster, KafkaOptions};

use crate::process::{Ingester, free_port};

const DEADLINE: Duration = Duration::from_secs(60);

/// The publisher's binary, or nothing when it is not built, as in a build of this crate alone.
pub(crate) fn publisher(kafka: &KafkaCluster, topic: &str, port: u16, log: &Path) -> Option<Program> {
    let Ok(binary) = testbed::workspace::binary("publisher") else {
        eprintln!("passed over: the publisher is not built");
        return None;
    };
    let program = Program::new(binary)
        .env("PUBLISHER__PROCESS__ADMIN_LISTEN", "127.0.0.1:0")
        .env("PUBLISHER__HTTP__LISTEN", format!("127.0.0.1:{port}"))
        .env("PUBLISHER__KAFKA__BROKERS", kafka.bootstrap())
        .env("PUBLISHER__KAFKA__TOPIC", topic);
    Some(program.log_to(log))
}

/// What the topic holds: id → run-seq of every record.
pub(crate) fn held(kafka: &KafkaCluster, topic: &str) -> (u64, BTreeMap<String, BTreeSet<u64>>) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", topic)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    let (mut ended, mut records, mut ids) = (BTreeSet::new(), 0, BTreeMap::<_, BTreeSet<_>>::new());
    let until = Instant::now() + DEADLINE;
    while ended.len() < partitions {
        assert!(Instant::now() < until, "the topic was not read to its end");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let id = String::from_utf8(message.key().unwrap().to_owned()).unwrap();
                let headers = message.headers().unwrap();
                let number = headers
                    .iter()
                    .find(|header| header.key == "run-seq")
                    .unwrap()
                    .value
                    .unwrap();
                let number = std::str::from_utf8(number).unwrap().parse().unwrap();
                ids.entry(id).or_default().insert(number);
                records += 1;
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    (records, ids)
}

async fn until_accepted(ingester: &Ingester, least: u64) {
    let accepted = |body: &str| {
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix("ingester_users_accepted_total "));
        line.and_then(|count| count.parse::<u64>().ok())
            .is_some_and(|count| count >= least)
    };
    ingester.wait_for("/metrics", |_, body| accepted(body)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counts_are_what_kafka_holds_and_a_killed_or_frozen_publisher_loses_nothing() {
    let kafka = KafkaCluster::start(&KafkaOptions::default()).await.unwrap();
    let api = RandomUserApi::start(Options::unlimited()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (port, topic) = (free_port(), "users_created");
    let Some(program) = publisher(&kafka, topic, port, &folder.path().join("publisher.log")) else {
        return;
    };
    let mut publisher: Child = program.spawn().unwrap();

    let url = format!("http://127.0.0.1:{port}");
    let settings = [
        ("SOURCE__PAGE_SIZE", "500"),
        ("SOURCE__BUDGET__USERS", "1000000"),
        ("PUBLISHER__BATCH", "50"),
        ("PUBLISHER__BACKOFF__MAX", "200ms"),
        ("PUBLISHER__REQUEST_DEADLINE", "3s"),
    ];
    let ingester = Ingester::start(&["once", "--users", "40000"], &api.url(), &url, &settings);
    for kill in 1..=3 {
        until_accepted(&ingester, kill * 4_000).await;
        assert_eq!(publisher.kill().await.unwrap().code(), None);
        ingester
            .wait_for("/readyz", |status, body| {
                status == 503 && body.contains("publisher")
            })
            .await;
        publisher = program.spawn().unwrap();
        ingester.wait_for("/readyz", |status, _| status == 200).await;
    }
    until_accepted(&ingester, 16_000).await;
    publisher.freeze().await.unwrap();
    ingester.wait_for("/readyz", |status, _| status == 503).await;
    publisher.thaw().unwrap();
    let status = ingester.child.wait(DEADLINE).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", ingester.log());

    let summary = ingester.summary();
    assert_eq!(
        (&summary["fetched"], &summary["rejected"]),
        (&40_000.into(), &0.into()),
        "{summary}"
    );
    assert!(summary["retried"].as_u64().unwrap() > 0, "{summary}");
    let accepted = summary["accepted"].as_u64().unwrap();
    assert_eq!(accepted + summary["duplicate"].as_u64().unwrap(), 40_000);
    let (records, ids) = held(&kafka, topic);
    assert_eq!(
        ids.len() as u64,
        accepted,
        "every accepted user is in Kafka, and nobody else"
    );
    assert!(records >= accepted);
    let numbers: BTreeSet<_> = ids.values().flatten().copied().collect();
    assert!(
        ids.values().all(|numbers| numbers.len() == 1),
        "a resent record keeps its number"
    );
    assert_eq!(numbers, (0..accepted).collect());
}

/// How long both are away: what an hour would show, once the outbox is full and nothing moves.
const OUTAGE: Duration = Duration::from_secs(6);
const PAGE: u64 = 250;
const OUTBOX: usize = 6;

/// Shortened: the outage (an hour), the longest wait between attempts (5 s), how long the publisher's producer tries
/// (12 s). An hour by the clock, with the defaults, is a test of `run`.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_and_publisher_away_cost_nothing_but_time_and_fetching_waits_at_the_bound() {
    let kafka = KafkaCluster::start(&KafkaOptions::default()).await.unwrap();
    let api = RandomUserApi::start(Options::unlimited()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (port, topic) = (free_port(), "users_created");
    let Some(program) = publisher(&kafka, topic, port, &folder.path().join("publisher.log")) else {
        return;
    };
    let program = program.env("PUBLISHER__KAFKA__MESSAGE_TIMEOUT", "2s");
    let publisher = program.spawn().unwrap();
    let state = folder.path().join("state.db");
    let (path, page, outbox) = (state.display().to_string(), PAGE.to_string(), OUTBOX.to_string());
    let settings = [
        ("STATE__PATH", path.as_str()),
        ("STATE__OUTBOX_PAGES", &outbox),
        ("SOURCE__PAGE_SIZE", &page),
        ("SOURCE__BUDGET__USERS", "1000000"),
        ("PUBLISHER__BATCH", "50"),
        ("PUBLISHER__BACKOFF__MAX", "200ms"),
        ("PUBLISHER__COMPRESSION", "gzip"),
    ];
    let url = format!("http://127.0.0.1:{port}");
    let ingester = Ingester::start(&["once", "--users", "20000"], &api.url(), &url, &settings);
    until_accepted(&ingester, 1_000).await;

    kafka.node(0).unwrap().freeze().await.unwrap();
    let memory = Memory::read(&state).unwrap();
    let run = memory.unfinished().unwrap()[0].id;
    let until = Instant::now() + DEADLINE;
    while memory.waiting_pages(run).unwrap() < OUTBOX {
        assert!(
            Instant::now() < until,
            "the outbox never filled:\n{}",
            ingester.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = api.requests().len();
    let over = Instant::now() + OUTAGE;
    let mut publisher = Some(publisher);
    while Instant::now() < over {
        assert_eq!(
            (memory.waiting_pages(run).unwrap(), api.requests().len()),
            (OUTBOX, asked)
        );
        let half = over.saturating_duration_since(Instant::now()) < OUTAGE / 2;
        if let Some(publisher) = publisher.take_if(|_| half) {
            publisher.kill().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(ingester.ask("/readyz").await.0 == 503 && ingester.ask("/healthz").await.0 == 200);
    kafka.node(0).unwrap().thaw().unwrap();
    let _publisher = program.spawn().unwrap();
    let status = ingester.child.wait(DEADLINE).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", ingester.log());

    let summary = ingester.summary();
    let accepted = summary["accepted"].as_u64().unwrap();
    assert_eq!(
        (&summary["fetched"], &summary["undelivered"]),
        (&20_000.into(), &0.into())
    );
    assert_eq!(
        accepted + summary["duplicate"].as_u64().unwrap(),
        20_000,
        "{summary}"
    );
    assert_eq!(
        api.requests().len() as u64,
        20_000 / PAGE,
        "no page was fetched twice"
    );
    let (_, ids) = held(&kafka, topic);
    let numbers: BTreeSet<_> = ids.values().flatten().copied().collect();
    assert_eq!((ids.len() as u64, numbers), (accepted, (0..accepted).collect()));
}
