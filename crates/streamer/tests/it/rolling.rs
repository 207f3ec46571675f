//! A rolling update, as a StatefulSet does it: each member by itself stops and comes back under the name of its pod.

use std::time::{Duration, Instant};

use testkit::service::Service;

use crate::flow::metric;
use crate::rebalance::share;
use crate::world::{DEADLINE, World};

/// That of the manifests: above the time that a pod takes to stop and to start.
const SESSION: &str = "45s";

async fn rebalances(member: &Service) -> f64 {
    metric(member, "streamer_rebalances_total", "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_of_static_members_moves_no_partition_and_loses_nothing() {
    let world = World::new("rolling", 6).await;
    let mut members = Vec::new();
    for ordinal in 0..3 {
        let pod = format!("streamer-{ordinal}");
        let options = world
            .options()
            .set("kafka.session_timeout", SESSION)
            .set("kafka.instance_id", &pod)
            .log_name(pod);
        members.push(world.start(&options).await);
    }
    share(&members.iter().collect::<Vec<_>>(), 6).await;
    let update = async {
        world.goes_on().await;
        // From the last to the first, as a StatefulSet does, and the next only once one is ready.
        for ordinal in (0..3).rev() {
            let mut before = Vec::new();
            for member in &members {
                before.push(rebalances(member).await);
            }
            let started = Instant::now();
            assert_eq!(
                members[ordinal].terminate(Duration::from_secs(25)).await.unwrap(),
                Some(0)
            );
            members[ordinal].spawn().unwrap();
            members[ordinal].wait_until_ready(DEADLINE).await.unwrap();
            share(&members.iter().collect::<Vec<_>>(), 6).await;
            world.goes_on().await;
            println!(
                "streamer-{ordinal}: stopped, started and caught up in {:?}",
                started.elapsed()
            );
            for (other, before) in before.iter().enumerate().filter(|(other, _)| *other != ordinal) {
                let now = rebalances(&members[other]).await;
                assert!((now - before).abs() < 0.5, "streamer-{other} was rebalanced");
            }
            assert!(
                (rebalances(&members[ordinal]).await - 1.0).abs() < 0.5,
                "it got its own back, once"
            );
        }
    };
    world.while_records_flow(update).await;
    world.nothing_is_lost_or_refused().await;
}
