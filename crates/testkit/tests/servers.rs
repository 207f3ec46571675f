//! The testkit's servers, for real: they start, keep their data over a kill, freeze, and die with their parent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cdrs_tokio::authenticators::StaticPasswordAuthenticatorProvider;
use cdrs_tokio::cluster::session::{SessionBuilder, TcpSessionBuilder};
use cdrs_tokio::cluster::{NodeAddress, NodeTcpConfigBuilder};
use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::load_balancing::RoundRobinLoadBalancingStrategy;
use cdrs_tokio::statement::StatementParamsBuilder;
use cdrs_tokio::types::ByName;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use testkit::servers::{
    CassandraCluster, CassandraOptions, KafkaCluster, KafkaOptions, ServerError, StandingShape, StandingStack,
};

const DEADLINE: Duration = Duration::from_secs(60);

async fn send(bootstrap: &str, topic: &str, value: &str, timeout_ms: u32) -> Result<(), String> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("message.timeout.ms", timeout_ms.to_string())
        .create()
        .unwrap();
    let record = FutureRecord::to(topic).key("key").payload(value);
    producer
        .send(record, DEADLINE)
        .await
        .map(drop)
        .map_err(|(error, _)| error.to_string())
}

/// The first `count` records of partition 0.
fn read(bootstrap: &str, topic: &str, count: usize) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut start = TopicPartitionList::new();
    start.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&start).unwrap();
    let until = Instant::now() + DEADLINE;
    let mut values = Vec::new();
    while values.len() < count {
        assert!(Instant::now() < until, "only {values:?} of {count} records came");
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            values.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
        }
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_keeps_its_records_over_a_kill_and_answers_nothing_while_frozen() {
    let cluster = KafkaCluster::start(&KafkaOptions::default()).await.unwrap();
    let node = cluster.node(0).unwrap();
    let bootstrap = cluster.bootstrap();
    cluster.create_topic("words", 1).await.unwrap();
    send(&bootstrap, "words", "before the kill", 30_000)
        .await
        .unwrap();

    let first_pid = node.pid().unwrap();
    node.kill().await.unwrap();
    assert_eq!(node.pid(), None);
    assert!(!node.is_ready().await);
    node.start().await.unwrap();
    assert_ne!(node.pid(), Some(first_pid));
    assert_eq!(cluster.bootstrap(), bootstrap);
    assert_eq!(read(&bootstrap, "words", 1), ["before the kill"]);

    node.freeze().await.unwrap();
    assert!(!node.is_ready().await);
    send(&bootstrap, "words", "lost in the frost", 2_000)
        .await
        .unwrap_err();
    node.thaw().unwrap();
    send(&bootstrap, "words", "after the thaw", 30_000).await.unwrap();
    let words = read(&bootstrap, "words", 2);
    assert!(words.contains(&"after the thaw".to_owned()), "{words:?}");

    node.stop().await.unwrap();
    assert!(matches!(node.freeze().await, Err(ServerError::NotRunning { .. })));
}

#[tokio::test]
async fn kafka_that_cannot_start_says_why_in_its_own_words() {
    let properties = BTreeMap::from([("log.retention.bytes".to_owned(), "many".to_owned())]);
    let error = KafkaCluster::start(&KafkaOptions {
        properties,
        ..KafkaOptions::default()
    })
    .await
    .unwrap_err();
    assert!(matches!(error, ServerError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("log.retention.bytes"), "{error}");
}

#[tokio::test]
async fn no_more_than_three_nodes_are_started() {
    let kafka = KafkaCluster::start(&KafkaOptions {
        nodes: 4,
        ..KafkaOptions::default()
    })
    .await;
    assert!(matches!(kafka, Err(ServerError::NodeCount(4))));
    let cassandra = CassandraCluster::start(&CassandraOptions {
        nodes: 0,
        ..Default::default()
    })
    .await;
    assert!(matches!(cassandra, Err(ServerError::NodeCount(0))));
}

type Session = cdrs_tokio::cluster::session::Session<
    cdrs_tokio::transport::TransportTcp,
    cdrs_tokio::cluster::TcpConnectionManager,
    RoundRobinLoadBalancingStrategy<
        cdrs_tokio::transport::TransportTcp,
        cdrs_tokio::cluster::TcpConnectionManager,
    >,
>;

async fn connect(cluster: &CassandraCluster, user: &str) -> Session {
    let points = cluster
        .contact_points()
        .into_iter()
        .map(NodeAddress::from)
        .collect();
    let config = NodeTcpConfigBuilder::new()
        .with_contact_points(points)
        .with_authenticator_provider(Arc::new(StaticPasswordAuthenticatorProvider::new(user, user)))
        .build();
    let config = tokio::time::timeout(DEADLINE, config).await.unwrap().unwrap();
    let builder = TcpSessionBuilder::new(RoundRobinLoadBalancingStrategy::new(), config);
    tokio::time::timeout(DEADLINE, builder.build())
        .await
        .unwrap()
        .unwrap()
}

/// At consistency `QUORUM`, again until the deadline: a driver needs a moment to see that a node is gone.
async fn query(session: &Session, statement: &str) -> Vec<cdrs_tokio::types::rows::Row> {
    let until = Instant::now() + DEADLINE;
    loop {
        let params = StatementParamsBuilder::new()
            .with_consistency(Consistency::Quorum)
            .build();
        let answer = tokio::time::timeout(DEADLINE, session.query_with_params(statement, params))
            .await
            .unwrap();
        match answer {
            Ok(answer) => return answer.response_body().unwrap().into_rows().unwrap_or_default(),
            Err(error) => assert!(Instant::now() < until, "{statement}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A table that only the node knows that is killed then would be gone with it. Each answer is another node's.
async fn every_node_knows_the_table(session: &Session) {
    let table =
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'test' AND table_name = 'words'";
    let until = Instant::now() + DEADLINE;
    let mut in_a_row = 0;
    while in_a_row < 6 {
        assert!(Instant::now() < until, "not every node knows the table");
        let known = !query(session, table).await.is_empty();
        in_a_row = if known { in_a_row + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandra_wants_a_login_and_keeps_its_rows_over_a_kill_and_a_freeze() {
    let options = CassandraOptions {
        authentication: true,
        ..CassandraOptions::default()
    }
    .synced();
    let cluster = CassandraCluster::start(&options).await.unwrap();
    let node = cluster.node(0).unwrap();
    let session = connect(&cluster, cluster.superuser()).await;
    query(
        &session,
        "CREATE KEYSPACE test WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    )
    .await;
    query(
        &session,
        "CREATE TABLE test.words (id int PRIMARY KEY, word text)",
    )
    .await;
    query(&session, "INSERT INTO test.words (id, word) VALUES (1, 'kept')").await;
    drop(session);

    node.kill().await.unwrap();
    node.start().await.unwrap();
    node.freeze().await.unwrap();
    assert!(!node.is_ready().await);
    node.thaw().unwrap();
    let session = connect(&cluster, cluster.superuser()).await;
    let rows = query(&session, "SELECT word FROM test.words WHERE id = 1").await;
    let word: String = rows[0].r_by_name("word").unwrap();
    assert_eq!(word, "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_hold_every_record_when_one_is_killed() {
    let options = KafkaOptions {
        nodes: 3,
        heap_mb: 384,
        ..KafkaOptions::default()
    };
    let cluster = KafkaCluster::start(&options).await.unwrap();
    cluster.create_topic("words", 1).await.unwrap();
    send(&cluster.bootstrap(), "words", "by three", 30_000)
        .await
        .unwrap();
    cluster.node(0).unwrap().kill().await.unwrap();
    send(&cluster.bootstrap(), "words", "by two", 30_000)
        .await
        .unwrap();
    cluster.node(0).unwrap().start().await.unwrap();
    cluster.node(1).unwrap().kill().await.unwrap();
    cluster.node(1).unwrap().start().await.unwrap();
    assert_eq!(read(&cluster.bootstrap(), "words", 2), ["by three", "by two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_cassandra_nodes_take_a_quorum_write_when_one_is_killed() {
    let options = CassandraOptions {
        nodes: 3,
        ..CassandraOptions::default()
    };
    let cluster = CassandraCluster::start(&options).await.unwrap();
    let session = connect(&cluster, cluster.superuser()).await;
    query(
        &session,
        "CREATE KEYSPACE test WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    )
    .await;
    query(
        &session,
        "CREATE TABLE test.words (id int PRIMARY KEY, word text)",
    )
    .await;
    every_node_knows_the_table(&session).await;
    cluster.node(2).unwrap().kill().await.unwrap();
    query(&session, "INSERT INTO test.words (id, word) VALUES (1, 'by two')").await;
    cluster.node(2).unwrap().start().await.unwrap();
    let rows = query(&session, "SELECT word FROM test.words WHERE id = 1").await;
    let word: String = rows[0].r_by_name("word").unwrap();
    assert_eq!(word, "by two");
}

#[test]
fn a_server_dies_with_its_parent_even_when_that_is_killed() {
    let mut parent = Command::new(env!("CARGO_BIN_EXE_testkit"))
        .args(["stack", "run", "--kafka", "1", "--cassandra", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("\"up\":true"), "{line}");
    let servers = children(parent.id());
    assert_eq!(servers.len(), 1, "the broker is the only child");

    parent.kill().unwrap();
    parent.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while servers.iter().any(|pid| runs(*pid)) {
        assert!(Instant::now() < until, "the broker outlives its parent");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// A process that has ended but was not reaped by its new parent has the state `Z`.
fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn shape(kafka: usize) -> StandingShape {
    // Away from the default ports, where somebody's own stack may stand.
    StandingShape {
        kafka,
        cassandra: 0,
        kafka_port: 12_092,
        cassandra_port: 12_042,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standing_stack_is_found_again_and_stopped_by_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let started = StandingStack::at(folder.path()).up(shape(1)).await.unwrap();
    assert!(started.up);

    // What another process would see: nothing but the folder.
    let stack = StandingStack::at(folder.path());
    let seen = stack.status().await.unwrap();
    assert_eq!(seen, started);
    assert_eq!(
        stack.up(shape(1)).await.unwrap(),
        started,
        "a running stack is left as it is"
    );
    assert!(matches!(
        stack.up(shape(2)).await,
        Err(ServerError::OtherStack { .. })
    ));

    let stopped = stack.down().await.unwrap();
    assert!(!stopped.up);
    assert_eq!(stopped.nodes[0].pid, None);
    assert!(!runs(started.nodes[0].pid.unwrap()));
    stack.wipe().unwrap();
    assert_eq!(stack.status().await.unwrap().nodes, []);
}
