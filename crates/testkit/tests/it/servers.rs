//! The testkit's servers: they start, keep their data over a kill, freeze, and end with their parent.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;
use testkit::cassandra_client::CassandraClient;
use testkit::kafka_client::{KafkaClient, ProducerRecord};
use testkit::servers::pool::Access;
use testkit::servers::{
    CassandraCluster, CassandraOptions, DetachedStack, KafkaCluster, KafkaOptions, ServerError, StackShape,
};
use tokio::time::{sleep, timeout};

const TIMEOUT: Duration = Duration::from_secs(60);
const TOPIC: &str = "words";

async fn send(cluster: &KafkaCluster, value: &str, limit: Duration) -> Result<(), String> {
    let client = KafkaClient::new(cluster.bootstrap()).unwrap();
    let record = ProducerRecord {
        key: Some(b"key".to_vec()),
        value: Some(value.into()),
        ..ProducerRecord::default()
    };
    match timeout(limit, client.write(TOPIC, &[record])).await {
        Ok(written) => written.map(drop).map_err(|error| error.to_string()),
        Err(elapsed) => Err(elapsed.to_string()),
    }
}

/// Waits for `count` records and returns all.
async fn read(cluster: &KafkaCluster, count: usize) -> Vec<String> {
    let client = KafkaClient::new(cluster.bootstrap()).unwrap();
    let until = Instant::now() + TIMEOUT;
    loop {
        let records = client.read(TOPIC).await.unwrap();
        let values = records
            .into_iter()
            .map(|record| String::from_utf8(record.value.unwrap()).unwrap());
        let values: Vec<_> = values.collect();
        if values.len() >= count {
            return values;
        }
        assert!(Instant::now() < until, "only {values:?} of {count} records");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_keeps_records_over_a_kill_and_stalls_while_frozen() {
    let cluster = KafkaCluster::lease(&KafkaOptions::default(), Access::Exclusive)
        .await
        .unwrap();
    let node = cluster.node(0).unwrap();
    let bootstrap = cluster.bootstrap();
    cluster.create_topic(TOPIC, 1).await.unwrap();
    send(&cluster, "before the kill", TIMEOUT).await.unwrap();

    let first_pid = node.pid().unwrap();
    node.kill().await.unwrap();
    assert_eq!(node.pid(), None);
    assert!(!node.is_ready().await);
    node.start().await.unwrap();
    assert_ne!(node.pid(), Some(first_pid));
    assert_eq!(cluster.bootstrap(), bootstrap);
    assert_eq!(read(&cluster, 1).await, ["before the kill"]);

    node.freeze().await.unwrap();
    assert!(!node.is_ready().await);
    send(&cluster, "while frozen", Duration::from_secs(2))
        .await
        .unwrap_err();
    node.thaw().unwrap();
    send(&cluster, "after the thaw", TIMEOUT).await.unwrap();
    let words = read(&cluster, 2).await;
    assert!(words.contains(&"after the thaw".to_owned()), "{words:?}");

    node.stop().await.unwrap();
    assert!(matches!(node.freeze().await, Err(ServerError::NotRunning { .. })));
}

#[tokio::test]
async fn failed_start_of_kafka_shows_the_log() {
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
async fn node_counts_outside_1_to_3_are_rejected() {
    let kafka = KafkaCluster::start(&KafkaOptions {
        nodes: 4,
        ..KafkaOptions::default()
    })
    .await;
    assert!(matches!(kafka, Err(ServerError::NodeCount { nodes: 4, .. })));
    let cassandra = CassandraCluster::start(&CassandraOptions {
        nodes: 0,
        ..Default::default()
    })
    .await;
    assert!(matches!(cassandra, Err(ServerError::NodeCount { nodes: 0, .. })));
}

async fn connect(cluster: &CassandraCluster) -> CassandraClient {
    let client = CassandraClient::connect(&cluster.contact_points(), "test").await;
    client.unwrap().by_quorum()
}

/// Executes a statement. Retries, because a driver needs time to see that a node has ended.
async fn query(client: &CassandraClient, statement: &str) -> Vec<Row> {
    let until = Instant::now() + TIMEOUT;
    loop {
        match client.run(statement).await {
            Ok(rows) => return rows,
            Err(error) => assert!(Instant::now() < until, "{statement}: {error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn create_table(client: &CassandraClient, replicas: usize) {
    let keyspace = format!(
        "CREATE KEYSPACE {{ks}} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {replicas}}}"
    );
    query(client, &keyspace).await;
    query(client, "CREATE TABLE {ks}.words (id int PRIMARY KEY, word text)").await;
}

async fn word(client: &CassandraClient) -> String {
    let rows = query(client, "SELECT word FROM {ks}.words WHERE id = 1").await;
    rows[0].r_by_name("word").unwrap()
}

/// Waits until every node knows the table, so that a killed node does not take it along. Each response is from another node.
async fn wait_for_schema_agreement(client: &CassandraClient) {
    let table =
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'test' AND table_name = 'words'";
    let until = Instant::now() + TIMEOUT;
    let mut consecutive = 0;
    while consecutive < 6 {
        assert!(Instant::now() < until, "not every node knows the table");
        let known = !query(client, table).await.is_empty();
        consecutive = if known { consecutive + 1 } else { 0 };
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandra_requires_login_and_keeps_rows_over_kill_and_freeze() {
    let cluster = CassandraCluster::lease(&CassandraOptions::with_login(), Access::Exclusive)
        .await
        .unwrap();
    let node = cluster.node(0).unwrap();
    let client = connect(&cluster).await;
    create_table(&client, 1).await;
    query(&client, "INSERT INTO {ks}.words (id, word) VALUES (1, 'kept')").await;
    drop(client);

    node.kill().await.unwrap();
    node.start().await.unwrap();
    node.freeze().await.unwrap();
    assert!(!node.is_ready().await);
    node.thaw().unwrap();
    assert_eq!(word(&connect(&cluster).await).await, "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_keep_records_when_one_is_killed() {
    let cluster = KafkaCluster::lease(&KafkaOptions::three_nodes(), Access::Exclusive)
        .await
        .unwrap();
    cluster.create_topic(TOPIC, 1).await.unwrap();
    send(&cluster, "by three", TIMEOUT).await.unwrap();
    cluster.node(0).unwrap().kill().await.unwrap();
    send(&cluster, "by two", TIMEOUT).await.unwrap();
    cluster.node(0).unwrap().start().await.unwrap();
    cluster.node(1).unwrap().kill().await.unwrap();
    cluster.node(1).unwrap().start().await.unwrap();
    assert_eq!(read(&cluster, 2).await, ["by three", "by two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_cassandra_nodes_take_quorum_writes_when_one_is_killed() {
    let cluster = CassandraCluster::lease_nodes(3).await.unwrap();
    let client = connect(&cluster).await;
    create_table(&client, 3).await;
    wait_for_schema_agreement(&client).await;
    cluster.node(2).unwrap().kill().await.unwrap();
    query(&client, "INSERT INTO {ks}.words (id, word) VALUES (1, 'by two')").await;
    cluster.node(2).unwrap().start().await.unwrap();
    assert_eq!(word(&client).await, "by two");
}

#[test]
fn server_ends_with_its_killed_parent() {
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
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// Whether a process runs. One that its new parent has not reaped has the state `Z`.
fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn shape(kafka: usize) -> StackShape {
    // Not the default ports, which a developer's own stack may use.
    StackShape {
        kafka,
        cassandra: 0,
        kafka_port: 12_092,
        cassandra_port: 12_042,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_stack_is_found_and_stopped_by_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let started = DetachedStack::at(folder.path()).up(shape(1)).await.unwrap();
    assert!(started.up);

    // Another process sees only the folder.
    let stack = DetachedStack::at(folder.path());
    let seen = stack.status().await.unwrap();
    assert_eq!(seen, started);
    assert_eq!(
        stack.up(shape(1)).await.unwrap(),
        started,
        "a running stack stays as it is"
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
