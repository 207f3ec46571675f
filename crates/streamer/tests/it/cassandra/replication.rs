//! Several Cassandra nodes. With three replicas, writes continue at `LOCAL_QUORUM` with one node down, wait with two nodes
//! down, and resume when one is back. With two replicas they wait with one down.

use std::time::Duration;

use testkit::cassandra_client::CassandraClient;
use testkit::servers::pool::Access;
use testkit::servers::{CassandraCluster, CassandraOptions};
use testkit::service::Service;
use testkit::workspace::is_full_test_run;

use super::authorization::wait_until_unready_for;
use crate::support::commands::assert_verified;
use crate::support::secured_cassandra::{create_role_on, log_in};
use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users};
use crate::support::traffic::{metric, wait_until_unready};

/// Each of three nodes has a replica of each row.
pub(super) const ON_THREE_NODES: &str = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}";

/// Each of two nodes has a replica of each row.
const ON_TWO_NODES: &str = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 2}";

/// Limit for the driver's reconnects and for gossip to detect the failed node.
const FAILOVER_LIMIT: Duration = Duration::from_secs(30);

/// Waits until `minimum` statements have failed as unavailable. Returns their number.
async fn wait_for_unavailable(streamer: &Service, minimum: f64) -> f64 {
    eventually("writes fail as unavailable", async || {
        let unavailable = metric(streamer, "streamer_retries_total", "unavailable").await;
        if unavailable >= minimum {
            Ok(())
        } else {
            Err(format!("{unavailable} of {minimum}"))
        }
    })
    .await;
    metric(streamer, "streamer_retries_total", "unavailable").await
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_quorum_pauses_writes_and_loses_nothing() {
    let (nodes, replication) = if is_full_test_run() {
        (3, ON_THREE_NODES)
    } else {
        (2, ON_TWO_NODES)
    };
    // The other node of the quorum has the writes that a killed node had not synced.
    let cluster = CassandraCluster::lease_nodes(nodes).await.unwrap();
    let env = TestEnv::on_cluster("replicated", cluster.contact_points())
        .await
        .with_topic(6)
        .await;
    let role = create_role_on(&env, &cluster, 0).await;
    let options = log_in(env.options(), &role).set("cassandra.replication", replication);
    let streamer = env.start(&options).await;
    env
        // Several servers share the machine, so the traffic is low.
        .with_traffic_of(20, async {
            env.wait_for_rows(&streamer).await;
            if nodes == 3 {
                cluster.node(2).unwrap().kill().await.unwrap();
                let took = env.wait_for_current_ends().await;
                assert!(took < FAILOVER_LIMIT, "with one node down: {took:?}");
                streamer.wait_until_ready(FAILOVER_LIMIT).await.unwrap();
                env.wait_for_current_ends().await;
            }

            cluster.node(1).unwrap().kill().await.unwrap();
            let reason = wait_until_unready(&streamer).await;
            assert!(reason.contains("cassandra"), "{reason}");
            let unavailable = wait_for_unavailable(&streamer, 1.0).await;
            let rows = metric(&streamer, "streamer_rows_total", "").await;
            // Ten more rejected attempts, and at least this long: that nothing is acknowledged meanwhile is the subject.
            let window = tokio::time::sleep(Duration::from_secs(3));
            tokio::join!(wait_for_unavailable(&streamer, unavailable + 10.0), window);
            let later = metric(&streamer, "streamer_rows_total", "").await;
            assert!(
                (later - rows).abs() < f64::EPSILON,
                "rows were acknowledged by one node of {nodes}"
            );
            assert_eq!(streamer.get("/healthz").await.unwrap().0, 200);

            cluster.node(1).unwrap().start().await.unwrap();
            streamer.wait_until_ready(DEADLINE).await.unwrap();
            env.wait_for_current_ends().await;
        })
        .await;
    env.wait_until_caught_up().await;
    env.assert_no_dead_letters().await;
    // The command reads at the same quorum, because the restarted node lacks rows.
    assert_verified(options).await;
}

/// The third node is down and still has the old schema. While nodes disagree, a missing column ends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn disagreement_on_the_schema_is_an_outage() {
    let cluster = CassandraCluster::lease_nodes(3).await.unwrap();
    let env = TestEnv::on_cluster("disagreement", cluster.contact_points())
        .await
        .with_topic(3)
        .await;
    let role = create_role_on(&env, &cluster, 0).await;
    let options = log_in(env.options(), &role).set("cassandra.replication", ON_THREE_NODES);
    let streamer = env.start(&options).await;
    let alter = async |change: &str| {
        let statement = format!("ALTER TABLE {{ks}}.created_users {change}");
        eventually("the table is altered", async || {
            let altered = env.cassandra.run(&statement).await;
            altered.map(drop).map_err(|error| error.to_string())
        })
        .await;
    };

    // It keeps the schema that it has.
    cluster.node(2).unwrap().kill().await.unwrap();
    alter("DROP IF EXISTS phone").await;
    env.write(&new_users(200)).await;
    // Long after the wait for an agreement.
    wait_until_unready_for(&streamer, &["phone"]).await;
    eventually("the nodes are queried several times", async || {
        let disagreements = streamer.log().matches("nodes disagree on the schema").count();
        if disagreements > 6 {
            Ok(())
        } else {
            Err(format!("{disagreements} disagreements"))
        }
    })
    .await;
    wait_until_unready_for(&streamer, &["phone"]).await;
    // A process that starts now waits, too.
    let second = Service::start(&options.clone().log_name("second")).unwrap();
    wait_until_unready_for(&second, &["nodes disagree on the schema: table"]).await;
    alter("ADD IF NOT EXISTS phone text").await;
    cluster.node(2).unwrap().start().await.unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    second.wait_until_ready(DEADLINE).await.unwrap();
    env.wait_until_caught_up().await;
    env.assert_no_dead_letters().await;
    assert_eq!(env.cassandra.users().await.unwrap().len(), 200);
}

/// The other data centre has a replica of each row, and would acknowledge rows at its own `LOCAL_QUORUM`.
#[tokio::test(flavor = "multi_thread")]
async fn other_data_centre_never_acknowledges_rows() {
    let cluster = CassandraCluster::lease(&CassandraOptions::two_datacenters(2, 2), Access::Exclusive)
        .await
        .unwrap();
    let local: Vec<_> = cluster.contact_points().into_iter().take(2).collect();
    let env = TestEnv::on_cluster("datacenters", local.clone())
        .await
        .with_topic(3)
        .await;
    let options = env.options().set(
        "cassandra.replication",
        "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1, 'datacenter2': 1}",
    );
    let streamer = env.start(&options).await;
    env.write(&new_users(50)).await;
    env.wait_until_caught_up().await;

    cluster.node(1).unwrap().kill().await.unwrap();
    env.write(&new_users(200)).await;
    wait_for_unavailable(&streamer, 1.0).await;
    let reason = wait_until_unready(&streamer).await;
    assert!(reason.contains("cassandra"), "{reason}");
    // The other data centre could acknowledge every row and checkpoint.
    let unavailable = wait_for_unavailable(&streamer, 1.0).await;
    wait_for_unavailable(&streamer, unavailable + 10.0).await;
    let ends = env.kafka.end_offsets(&env.topic).await.unwrap();
    assert!(env.checkpoint_sum().await < ends.values().sum::<i64>());
    cluster.node(1).unwrap().start().await.unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    env.wait_until_caught_up().await;
    env.assert_no_dead_letters().await;
    // Without the other data centre, a row that is read is in this one.
    for node in [2, 3] {
        cluster.node(node).unwrap().kill().await.unwrap();
    }
    let here = CassandraClient::connect(&local, env.keyspace.clone())
        .await
        .unwrap();
    assert_eq!(here.users().await.unwrap().len(), 250);
}
