//! A second member joins, is killed, and leaves. The first takes its partitions over without loss.

use std::time::Duration;

use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users};

#[tokio::test(flavor = "multi_thread")]
async fn second_member_takes_half_and_gives_it_back() {
    let env = TestEnv::new("members", 6).await;
    let one = env.streamer().await;
    let users = new_users(15_000);
    let writes = async {
        for slice in users.chunks(250) {
            env.write(slice).await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    };
    let scale = async {
        let mut two = env.start(&env.options().log_name("second")).await;
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
        eventually("the first holds all partitions again", async || {
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
    tokio::join!(writes, scale);
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
    assert_eq!(env.users().await.len(), users.len());
}
