//! Static membership (`kafka.instance_id`): a member that comes back in time takes its own partitions up again, and nobody
//! else notices; of two under one id only one works.

use std::time::Duration;

use testkit::service::{Service, ServiceOptions};

use crate::flow::{ends, metric};
use crate::world::{DEADLINE, World, eventually};

/// Much longer than a restart takes, on a busy machine too.
const SESSION: &str = "30s";

fn named(world: &World, id: &str) -> ServiceOptions {
    world
        .options()
        .log_name(id)
        .set("kafka.instance_id", id)
        .set("kafka.session_timeout", SESSION)
}

async fn holds(member: &Service, partitions: f64) {
    eventually("it holds its partitions", async || {
        let held = member
            .metric("streamer_assigned_partitions", "")
            .await
            .map_err(|error| error.to_string())?;
        if held == Some(partitions) {
            Ok(())
        } else {
            Err(format!("{held:?} of {partitions}"))
        }
    })
    .await;
}

/// How often its partitions were taken from it.
async fn taken(member: &Service) -> f64 {
    metric(member, "streamer_rebalances_total", "revoked").await
        + metric(member, "streamer_rebalances_total", "lost").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_is_stopped_or_killed_takes_up_its_own_partitions_and_others_keep_theirs() {
    let world = World::new("static", 6).await;
    let one = world.start(&named(&world, "one")).await;
    let mut two = world.start(&named(&world, "two")).await;
    holds(&one, 3.0).await;
    holds(&two, 3.0).await;
    let scene = async {
        world.goes_on().await;
        let before = taken(&one).await;
        for kill in [false, true] {
            if kill {
                two.kill().await.unwrap();
            } else {
                assert_eq!(two.terminate(Duration::from_secs(25)).await.unwrap(), Some(0));
            }
            two.spawn().unwrap();
            two.wait_until_ready(DEADLINE).await.unwrap();
            holds(&two, 3.0).await;
            // All six go on, so those of the one that was away do.
            world.goes_on().await;
        }
        assert!(
            (taken(&one).await - before).abs() < f64::EPSILON,
            "the other member lost its partitions for a moment"
        );
        holds(&one, 3.0).await;
    };
    world.while_records_flow(scene).await;
    world.nothing_is_lost_or_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_members_under_one_id_the_older_one_ends_and_says_why_and_nothing_is_lost() {
    let world = World::new("twins", 6).await;
    let older = world.start(&named(&world, "same")).await;
    let scene = async {
        world.goes_on().await;
        let younger = world.start(&named(&world, "same").log_name("younger")).await;
        let (code, log) = ends(&older).await;
        assert_eq!(code, Some(1), "{log}");
        assert!(
            log.contains("failed for good") && log.contains("instance"),
            "it does not say why: {log}"
        );
        holds(&younger, 6.0).await;
        world.goes_on().await;
        younger
    };
    let _younger = world.while_records_flow(scene).await;
    world.nothing_is_lost_or_refused().await;
}
