//! The nodes can't read roles and permissions: `system_auth` has one replica, which is Cassandra's default, and its node is
//! lost. That is an outage, not a refused role.

use testkit::servers::CassandraCluster;
use testkit::service::Service;

use super::replication::ON_THREE_NODES;
use crate::support::commands::assert_verified;
use crate::support::secured_cassandra::{create_role_on, log_in};
use crate::support::test_env::{DEADLINE, TestEnv, eventually};
use crate::support::traffic::wait_until_unready;

/// The node with the role. The other two are a quorum of each row's replicas.
const NODE: usize = 1;

#[tokio::test(flavor = "multi_thread")]
async fn lost_authorization_pauses_writes_and_loses_nothing() {
    let cluster = CassandraCluster::lease_nodes(3).await.unwrap();
    let env = TestEnv::on_cluster("authorized", cluster.contact_points())
        .await
        .with_topic(6)
        .await;
    let role = create_role_on(&env, &cluster, NODE).await;
    let options = log_in(env.options(), &role).set("cassandra.replication", ON_THREE_NODES);
    let streamer = env.start(&options).await;
    // Four servers share the machine, so the traffic is low.
    env.with_traffic_of(20, async {
        env.wait_for_rows(&streamer).await;
        cluster.node(NODE).unwrap().kill().await.unwrap();
        // The other nodes know the permissions for two more seconds. A session that is lost meanwhile, as on a busy machine,
        // can't log in again.
        wait_until_unready_for(&streamer, &["rows: authorization", "Unable to perform"]).await;

        // A process that starts now can't log in.
        let second = Service::start(&options.clone().log_name("second")).unwrap();
        wait_until_unready_for(&second, &["Unable to perform"]).await;

        cluster.node(NODE).unwrap().start().await.unwrap();
        streamer.wait_until_ready(DEADLINE).await.unwrap();
        second.wait_until_ready(DEADLINE).await.unwrap();
        env.wait_for_current_ends().await;
    })
    .await;
    env.wait_until_caught_up().await;
    env.assert_no_dead_letters().await;
    // The command reads at the same quorum, because the restarted node lacks rows.
    assert_verified(options).await;
}

/// Waits until the streamer runs and is not ready for one of these reasons.
pub(super) async fn wait_until_unready_for(streamer: &Service, reasons: &[&str]) {
    eventually("the reason is reported", async || {
        let body = wait_until_unready(streamer).await;
        if reasons.iter().any(|reason| body.contains(reason)) {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
}
