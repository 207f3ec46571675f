//! Three Cassandra nodes, every row on each: with one down the work goes on at `LOCAL_QUORUM`, with two down it waits, and
//! it resumes when one is back.

use std::time::Duration;

use testkit::servers::{CassandraCluster, CassandraOptions};

use crate::commands::operate;
use crate::flow::{metric, turns_unready};
use crate::world::{DEADLINE, World, eventually};

/// The driver's own reconnecting and the nodes' agreement on who is down.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn with_one_node_of_three_down_it_goes_on_with_two_it_waits_and_nothing_is_lost() {
    let options = CassandraOptions {
        nodes: 3,
        ..CassandraOptions::default()
    };
    // What a killed node had not written to its disk, the other of the quorum has.
    let cluster = CassandraCluster::lease(&options).await.unwrap();
    let world = World::beside("replicated", cluster.contact_points())
        .await
        .with_topic(6)
        .await;
    let options = world.options().set(
        "cassandra.replication",
        "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
    );
    let streamer = world.start(&options).await;
    world
        // Four servers and what else the machine does leave little for each.
        .while_flowing(20, async {
            world.busy(&streamer).await;
            cluster.node(2).unwrap().kill().await.unwrap();
            let took = world.goes_on().await;
            assert!(took < SOON, "with one node down: {took:?}");
            streamer.wait_until_ready(SOON).await.unwrap();
            world.goes_on().await;

            cluster.node(1).unwrap().kill().await.unwrap();
            let reason = turns_unready(&streamer).await;
            assert!(reason.contains("cassandra"), "{reason}");
            eventually("it says that replicas are missing", async || {
                let unavailable = metric(&streamer, "streamer_retries_total", "unavailable").await;
                if unavailable > 0.0 {
                    Ok(())
                } else {
                    Err(format!("{unavailable}"))
                }
            })
            .await;
            let rows = metric(&streamer, "streamer_rows_total", "").await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let later = metric(&streamer, "streamer_rows_total", "").await;
            assert!(
                (later - rows).abs() < f64::EPSILON,
                "rows are called durable on one node of three"
            );
            assert_eq!(streamer.get("/healthz").await.unwrap().0, 200);

            cluster.node(1).unwrap().start().await.unwrap();
            streamer.wait_until_ready(DEADLINE).await.unwrap();
            world.goes_on().await;
        })
        .await;
    world.caught_up().await;
    world.nothing_is_refused().await;
    // At the quorum that the rows were written with: a node that was down lacks what it missed.
    let (code, output) = operate(options, "verify").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.ends_with("different: 0"), "{output}");
}
