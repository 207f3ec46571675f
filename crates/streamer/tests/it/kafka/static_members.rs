//! Static membership (`kafka.instance_id`). A member that restarts within its session timeout keeps its partitions, and
//! causes no rebalance. Of two members with one id, only one runs.

use std::time::Duration;

use testkit::service::{Service, ServiceOptions};

use crate::support::assignment::wait_for_partitions;
use crate::support::test_env::{DEADLINE, TestEnv};
use crate::support::traffic::{metric, wait_for_exit};

/// Session timeout, much longer than a restart on a busy machine.
const SESSION: &str = "30s";

fn options_for(env: &TestEnv, id: &str) -> ServiceOptions {
    env.options()
        .log_name(id)
        .set("kafka.instance_id", id)
        .set("kafka.session_timeout", SESSION)
}

/// Returns how often the member lost partitions.
async fn losses(member: &Service) -> f64 {
    metric(member, "streamer_rebalances_total", "revoked").await
        + metric(member, "streamer_rebalances_total", "lost").await
}

#[tokio::test(flavor = "multi_thread")]
async fn static_member_restart_keeps_all_assignments() {
    let env = TestEnv::new("static", 6).await;
    let one = env.start(&options_for(&env, "one")).await;
    let mut two = env.start(&options_for(&env, "two")).await;
    wait_for_partitions(&one, 3.0).await;
    wait_for_partitions(&two, 3.0).await;
    let scenario = async {
        env.wait_for_current_ends().await;
        let before = losses(&one).await;
        for kill in [false, true] {
            if kill {
                two.kill().await.unwrap();
            } else {
                assert_eq!(two.terminate(Duration::from_secs(25)).await.unwrap(), Some(0));
            }
            two.spawn().unwrap();
            two.wait_until_ready(DEADLINE).await.unwrap();
            wait_for_partitions(&two, 3.0).await;
            // All six checkpoints advance, also those of the restarted member.
            env.wait_for_current_ends().await;
        }
        assert!(
            (losses(&one).await - before).abs() < f64::EPSILON,
            "the other member lost its partitions"
        );
        wait_for_partitions(&one, 3.0).await;
    };
    env.with_traffic(scenario).await;
    env.assert_nothing_lost_or_rejected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_instance_id_ends_older_member() {
    let env = TestEnv::new("twins", 6).await;
    let older = env.start(&options_for(&env, "same")).await;
    let scenario = async {
        env.wait_for_current_ends().await;
        let newer = env.start(&options_for(&env, "same").log_name("newer")).await;
        let (code, log) = wait_for_exit(&older).await;
        assert_eq!(code, Some(1), "{log}");
        assert!(
            log.contains("failed for good") && log.contains("instance"),
            "the log does not name the cause: {log}"
        );
        wait_for_partitions(&newer, 6.0).await;
        env.wait_for_current_ends().await;
        newer
    };
    let _newer = env.with_traffic(scenario).await;
    env.assert_nothing_lost_or_rejected().await;
}
