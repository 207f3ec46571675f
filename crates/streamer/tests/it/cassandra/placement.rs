//! More nodes than replicas: each node has its own session and its own limit of statements in flight. Losing or removing one
//! does not concern the others.

use std::pin::pin;
use std::time::{Duration, Instant};

use cdrs_tokio::cluster::Murmur3Token;
use cdrs_tokio::types::ByName as _;
use testkit::cassandra_client::CassandraClient;
use testkit::proxy::remote_addresses;
use testkit::servers::{CassandraCluster, CassandraOptions};
use testkit::service::Service;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::commands::assert_verified;
use crate::support::secured_cassandra::{create_role_on, log_in};
use crate::support::test_env::{DEADLINE, TestEnv, eventually};
use crate::support::traffic::{metric, wait_until_unready};

const SESSION_LOST: &str = "session with a node of cassandra lost";

/// Above any pause of a busy machine, so that only the stopped node costs its session.
const REQUEST_TIMEOUT: &str = "30s";

/// `batch.max_in_flight`: one lost session can concern no more micro-batches.
const MAX_REWRITTEN: f64 = 4.0;

/// The largest `cassandra.max_in_flight`. A limit grows by one in eight acknowledged statements, so a lowered one does not
/// come near it during a test.
const MAX_IN_FLIGHT: u16 = 8_192;

/// Limit for the time without a new row while a node leaves the cluster.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn lost_node_costs_only_its_own_session() {
    let cluster = CassandraCluster::lease_nodes(3).await.unwrap();
    let nodes = cluster.contact_points();
    // The other nodes are found through the first one.
    let env = TestEnv::on_cluster("placed", vec![nodes[0].clone()])
        .await
        .with_topic(6)
        .await;
    let role = create_role_on(&env, &cluster, 0).await;
    let options = log_in(env.options(), &role)
        .set(
            "cassandra.replication",
            "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}",
        )
        .set("cassandra.request_timeout", REQUEST_TIMEOUT);
    let streamer = env.start(&options).await;
    env.with_traffic_of(20, async {
        env.wait_for_rows(&streamer).await;
        wait_until_connected(&streamer, &nodes).await;
        env.wait_for_current_ends().await;

        cluster.node(2).unwrap().stop().await.unwrap();
        wait_until_connected(&streamer, &nodes[..2]).await;
        // Another node coordinates the rows of the stopped one, and knows that it is down.
        eventually("rows are unavailable", async || {
            let unavailable = metric(&streamer, "streamer_retries_total", "unavailable").await;
            if unavailable > 0.0 {
                Ok(())
            } else {
                Err("none yet".to_owned())
            }
        })
        .await;
        let rewritten = metric(&streamer, "streamer_retries_total", "session_poisoned").await;
        assert!(rewritten <= MAX_REWRITTEN, "{rewritten} micro-batches");
        let reason = wait_until_unready(&streamer).await;
        assert!(reason.contains("cassandra"), "{reason}");

        cluster.node(2).unwrap().start().await.unwrap();
        wait_until_connected(&streamer, &nodes).await;
        streamer.wait_until_ready(DEADLINE).await.unwrap();
        env.wait_for_current_ends().await;
    })
    .await;
    env.wait_until_caught_up().await;
    env.assert_no_dead_letters().await;
    let log = streamer.last_lines(10_000);
    let lost: Vec<_> = log.lines().filter(|line| line.contains(SESSION_LOST)).collect();
    assert!(!lost.is_empty(), "{log}");
    assert!(lost.iter().all(|line| line.contains(&nodes[2])), "{lost:?}");

    assert_tokens_are_cassandras(&env).await;
    assert_verified(options).await;
}

/// A node is bootstrapped into the running cluster and the first one is decommissioned. Each takes most of a minute.
///
/// In between the new node gives no reply, so the first one reports write timeouts for its rows. That must not lower the limit
/// of the new node, which lost one session. The metric is the lowest limit of all nodes, so the new node's own is visible once
/// the first has left.
#[tokio::test(flavor = "multi_thread")]
async fn new_node_gets_rows_and_removed_node_is_left() {
    let options = CassandraOptions {
        spares: 1,
        ..CassandraOptions::default()
    };
    let cluster = CassandraCluster::start(&options).await.unwrap();
    let (nodes, new) = (cluster.contact_points(), cluster.node(1).unwrap());
    let only_new = [new.address().to_owned()];
    let mut env = TestEnv::on_cluster("joined", nodes.clone())
        .await
        .with_topic(6)
        .await;
    let options = env
        .options()
        .set("cassandra.request_timeout", "5s")
        .set("cassandra.max_in_flight", MAX_IN_FLIGHT.to_string());
    let streamer = env.start(&options).await;
    env.with_traffic_of(20, async {
        env.wait_for_rows(&streamer).await;
        wait_until_connected(&streamer, &nodes).await;
        new.start().await.unwrap();
        wait_until_connected(&streamer, &[&nodes[..], &only_new].concat()).await;
        env.wait_for_current_ends().await;

        // Only what was sent to it can be lost with it.
        new.freeze().await.unwrap();
        eventually("rows were sent to the new node", async || {
            let rewritten = metric(&streamer, "streamer_retries_total", "session_poisoned").await;
            let log = streamer.last_lines(10_000);
            let mut lost = log.lines().filter(|line| line.contains(SESSION_LOST));
            if rewritten > 0.0 && lost.any(|line| line.contains(new.address())) {
                Ok(())
            } else {
                Err(format!("{rewritten} micro-batches written again: {log}"))
            }
        })
        .await;
        // A lost session halves a limit once. A timeout does so for each micro-batch.
        wait_for_limit(&streamer, "lowered", |limit| {
            limit <= f64::from(MAX_IN_FLIGHT / 16)
        })
        .await;
        let timeouts = metric(&streamer, "streamer_retries_total", "write_timeout").await;
        assert!(timeouts > 0.0, "no write timeout lowered the limit");
        new.thaw().unwrap();
        streamer.wait_until_ready(DEADLINE).await.unwrap();
        env.wait_for_current_ends().await;

        let longest = longest_time_without_rows(&streamer, async {
            // Keyspaces of Cassandra itself have more replicas than nodes would remain.
            let decommission = ["decommission", "--force"];
            cluster.nodetool().run(&decommission).await.unwrap();
            wait_until_connected(&streamer, &only_new).await;
            streamer.wait_until_ready(DEADLINE).await.unwrap();
        })
        .await;
        assert!(longest < LEAVE_LIMIT, "{longest:?} without a row");
        wait_for_limit(&streamer, "the new node's own", |limit| {
            limit >= f64::from(MAX_IN_FLIGHT / 4)
        })
        .await;
    })
    .await;
    env.cassandra = CassandraClient::connect(&only_new, env.keyspace.clone())
        .await
        .unwrap();
    env.wait_until_caught_up().await;
    env.assert_no_dead_letters().await;
    assert_verified(options.set("cassandra.contact_points", new.address())).await;
}

/// Waits until the lowest limit of statements in flight is as `expected`.
async fn wait_for_limit(streamer: &Service, what: &str, expected: impl Fn(f64) -> bool) {
    eventually(&format!("the limit is {what}"), async || {
        let limit = metric(streamer, "streamer_in_flight_limit", "").await;
        if expected(limit) {
            Ok(())
        } else {
            Err(limit.to_string())
        }
    })
    .await;
}

/// Runs `work`. Returns the longest time without a new row meanwhile.
async fn longest_time_without_rows(streamer: &Service, work: impl Future<Output = ()>) -> Duration {
    const POLL_INTERVAL: Duration = Duration::from_millis(100);
    let mut work = pin!(work);
    let (mut rows, mut since, mut longest) = (0.0, Instant::now(), Duration::ZERO);
    loop {
        let is_done = timeout(POLL_INTERVAL, work.as_mut()).await.is_ok();
        let now = metric(streamer, "streamer_rows_total", "").await;
        if now > rows || is_done {
            longest = longest.max(since.elapsed());
            (rows, since) = (now, Instant::now());
        }
        if is_done {
            return longest;
        }
    }
}

/// Waits until the streamer is connected to these nodes and no others.
async fn wait_until_connected(streamer: &Service, nodes: &[String]) {
    eventually("a session with each node", async || {
        let remotes = remote_addresses(streamer.child().unwrap().pid()).unwrap();
        let port = nodes[0].rsplit_once(':').unwrap().1;
        let mut connected: Vec<_> = remotes
            .iter()
            .map(ToString::to_string)
            .filter(|remote| remote.ends_with(&format!(":{port}")))
            .collect();
        connected.sort();
        connected.dedup();
        if connected == nodes {
            Ok(())
        } else {
            Err(format!("{connected:?} instead of {nodes:?}"))
        }
    })
    .await;
}

async fn assert_tokens_are_cassandras(env: &TestEnv) {
    let rows = env
        .cassandra
        .run("SELECT id, token(id) AS placed FROM {ks}.created_users LIMIT 200")
        .await
        .unwrap();
    assert!(rows.len() >= 20, "{} rows", rows.len());
    for row in rows {
        let token: i64 = row.by_name("placed").unwrap().unwrap();
        let id: Uuid = row.by_name("id").unwrap().unwrap();
        assert_eq!(Murmur3Token::generate(id.as_bytes()).value, token, "{id}");
    }
}
