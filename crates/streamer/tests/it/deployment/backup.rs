//! Cassandra is restored from a backup of its files, taken while records flowed, in both of the ways that the operations
//! manual names.

use std::path::{Path, PathBuf};

use crate::support::commands::{run_command, stop};
use crate::support::secured_cassandra::{SecuredEnv, secured_env};
use crate::support::test_env::DEADLINE;

/// Where a table's snapshot is copied to; `nodetool import` wants the names of keyspace and table in the path.
fn backup_of(env: &SecuredEnv, table: &str) -> PathBuf {
    env.folder().join("backup").join(&env.keyspace).join(table)
}

/// Takes a snapshot of one table and copies it away, as a backup does.
async fn back_up(env: &SecuredEnv, table: &str) {
    let qualified = format!("{}.{table}", env.keyspace);
    let tag = format!("backup-{table}");
    let arguments = ["snapshot", "--tag", &tag, "--kt-list", &qualified];
    env.nodetool().run(&arguments).await.unwrap();
    let tables = env.server().folder().join("data").join(&env.keyspace);
    let snapshot = entries(&tables)
        .into_iter()
        .find(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(&format!("{table}-"))
        })
        .unwrap()
        .join("snapshots")
        .join(&tag);
    let backup = backup_of(env, table);
    std::fs::create_dir_all(&backup).unwrap();
    for file in entries(&snapshot) {
        std::fs::copy(&file, backup.join(file.file_name().unwrap())).unwrap();
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// What the table held is gone, and what the backup held is there.
async fn restore(env: &SecuredEnv, table: &str) {
    env.cassandra
        .run(&format!("TRUNCATE {{ks}}.{table}"))
        .await
        .unwrap();
    let backup = backup_of(env, table);
    let backup = backup.to_str().unwrap();
    let arguments = ["import", "--copy-data", &env.keyspace, table, backup];
    env.nodetool().run(&arguments).await.unwrap();
}

async fn done(env: &SecuredEnv, arguments: &str) -> Option<i32> {
    let (code, output) = run_command(env.options(), arguments).await;
    println!("{arguments}: {code:?}\n{output}");
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_with_old_checkpoints_or_replay_restores_rows() {
    let env = secured_env("restored", 3).await;
    let mut streamer = env.start(&env.options()).await;
    env.with_traffic(async {
        env.wait_for_rows(&streamer).await;
        back_up(&env, "stream_checkpoints").await;
        env.wait_for_current_ends().await;
        back_up(&env, "created_users").await;
        env.wait_for_current_ends().await;
    })
    .await;
    env.wait_until_caught_up().await;
    stop(&mut streamer).await;

    restore(&env, "created_users").await;
    assert_eq!(
        done(&env, "verify").await,
        Some(1),
        "rows are missing, and it is seen"
    );
    restore(&env, "stream_checkpoints").await;
    let ends = env.kafka.ends(&env.topic).await.unwrap();
    let checkpoints = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap();
    assert!(
        checkpoints.len() == 3
            && checkpoints
                .iter()
                .all(|(it, checkpoint)| checkpoint.next_offset < ends[it]),
        "the backup's checkpoints are older"
    );
    streamer.spawn().unwrap();
    streamer.ready(DEADLINE).await.unwrap();
    env.assert_nothing_lost_or_rejected().await;
    stop(&mut streamer).await;
    assert_eq!(done(&env, "verify").await, Some(0));

    // The other way: the checkpoints stay, so what is missing has to be written again.
    restore(&env, "created_users").await;
    assert_eq!(
        done(&env, "verify").await,
        Some(1),
        "rows are missing, and it is seen"
    );
    assert_eq!(done(&env, "replay --from-offset 0 --yes").await, Some(0));
    streamer.spawn().unwrap();
    streamer.ready(DEADLINE).await.unwrap();
    env.assert_nothing_lost_or_rejected().await;
    stop(&mut streamer).await;
    assert_eq!(done(&env, "verify").await, Some(0));
}
