//! A rolling update of a StatefulSet: members restart one after another with the instance id of their pod.

use std::time::{Duration, Instant};

use testkit::service::Service;

use crate::support::assignment::wait_for_even_assignment;
use crate::support::test_env::{DEADLINE, TestEnv};
use crate::support::traffic::metric;

/// Session timeout of the manifests, longer than a pod's restart.
const SESSION: &str = "45s";

async fn rebalances(member: &Service) -> f64 {
    metric(member, "streamer_rebalances_total", "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_update_of_static_members_moves_no_partition() {
    let env = TestEnv::new("rolling", 6).await;
    let mut members = Vec::new();
    for ordinal in 0..3 {
        let pod = format!("streamer-{ordinal}");
        let options = env
            .options()
            .set("kafka.session_timeout", SESSION)
            .set("kafka.instance_id", &pod)
            .log_name(pod);
        members.push(env.start(&options).await);
    }
    wait_for_even_assignment(&members.iter().collect::<Vec<_>>(), 6).await;
    let update = async {
        env.wait_for_current_ends().await;
        // In descending order, and each after the previous one is ready, as a StatefulSet does.
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
            wait_for_even_assignment(&members.iter().collect::<Vec<_>>(), 6).await;
            env.wait_for_current_ends().await;
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
                "the restarted member was assigned more than once"
            );
        }
    };
    env.with_traffic(update).await;
    env.assert_nothing_lost_or_rejected().await;
}
