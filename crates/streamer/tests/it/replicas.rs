//! More than one member: what one gives back another takes over, and nothing is lost between them.

use std::time::Duration;

use crate::world::{DEADLINE, World, eventually, people};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_takes_half_and_gives_it_back_while_records_flow() {
    let world = World::new("members", 6).await;
    let one = world.streamer().await;
    let users = people(15_000);
    let feed = async {
        for slice in users.chunks(250) {
            world.write(slice).await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    };
    let scale = async {
        let mut two = world.start(&world.options().log_name("second")).await;
        eventually("each holds three partitions", async || {
            let held = |found: Option<f64>| found.unwrap_or(0.0);
            let one = held(
                one.metric("streamer_assigned_partitions", "")
                    .await
                    .map_err(|error| error.to_string())?,
            );
            let two = held(
                two.metric("streamer_assigned_partitions", "")
                    .await
                    .map_err(|error| error.to_string())?,
            );
            if (one, two) == (3.0, 3.0) {
                Ok(())
            } else {
                Err(format!("{one} and {two}"))
            }
        })
        .await;
        two.kill().await.unwrap();
        eventually("the first holds all again", async || {
            let one = one
                .metric("streamer_assigned_partitions", "")
                .await
                .map_err(|error| error.to_string())?;
            if one == Some(6.0) {
                Ok(())
            } else {
                Err(format!("{one:?}"))
            }
        })
        .await;
        two.spawn().unwrap();
        two.wait_until_ready(DEADLINE).await.unwrap();
        assert_eq!(two.terminate(Duration::from_secs(25)).await.unwrap(), Some(0));
    };
    tokio::join!(feed, scale);
    world.caught_up().await;
    world.table_is_the_log().await;
    assert_eq!(world.users().await.len(), users.len());
}
