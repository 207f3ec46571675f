//! More nodes than replicas: each node has its own session, and losing one does not concern the others.

use cdrs_tokio::cluster::Murmur3Token;
use cdrs_tokio::types::ByName as _;
use testkit::proxy::remote_addresses;
use testkit::servers::{CassandraCluster, CassandraOptions};
use testkit::service::Service;
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

/// A node is bootstrapped into the running cluster, which takes most of a minute.
#[tokio::test(flavor = "multi_thread")]
async fn new_node_gets_a_session_and_rows() {
    let options = CassandraOptions {
        spares: 1,
        ..CassandraOptions::default()
    };
    let cluster = CassandraCluster::start(&options).await.unwrap();
    let (nodes, new) = (cluster.contact_points(), cluster.node(1).unwrap());
    let env = TestEnv::on_cluster("joined", nodes.clone())
        .await
        .with_topic(6)
        .await;
    let options = env.options().set("cassandra.request_timeout", "5s");
    let streamer = env.start(&options).await;
    env.with_traffic_of(20, async {
        env.wait_for_rows(&streamer).await;
        wait_until_connected(&streamer, &nodes).await;
        new.start().await.unwrap();
        wait_until_connected(&streamer, &[&*nodes, &[new.address().to_owned()]].concat()).await;
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
        new.thaw().unwrap();
        streamer.wait_until_ready(DEADLINE).await.unwrap();
        env.wait_for_current_ends().await;
    })
    .await;
    env.wait_until_caught_up().await;
    env.assert_no_dead_letters().await;
    assert_verified(options).await;
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
