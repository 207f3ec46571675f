//! Cassandra is restored from a backup of its files that was taken under traffic, in both ways of the operations manual.

use std::path::{Path, PathBuf};

use crate::support::commands::{run_command, stop};
use crate::support::secured_cassandra::{SecuredEnv, secured_env};
use crate::support::test_env::DEADLINE;

/// Returns the folder for a copy of a table's snapshot. `nodetool import` requires keyspace and table in the path.
fn backup_of(env: &SecuredEnv, table: &str) -> PathBuf {
    env.folder().join("backup").join(&env.keyspace).join(table)
}

/// Takes a snapshot of a table, and copies it.
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

/// Replaces the rows of a table by those of its backup.
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

/// Runs a command, and prints its output. Returns its exit code.
async fn exit_code_of(env: &SecuredEnv, arguments: &str) -> Option<i32> {
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
        exit_code_of(&env, "verify").await,
        Some(1),
        "verify did not find the missing rows"
    );
    restore(&env, "stream_checkpoints").await;
    let ends = env.kafka.end_offsets(&env.topic).await.unwrap();
    let checkpoints = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap();
    assert!(
        checkpoints.len() == 3
            && checkpoints
                .iter()
                .all(|(it, checkpoint)| checkpoint.next_offset < ends[it]),
        "the checkpoints of the backup are not older"
    );
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    env.assert_nothing_lost_or_rejected().await;
    stop(&mut streamer).await;
    assert_eq!(exit_code_of(&env, "verify").await, Some(0));

    // The second way: the checkpoints stay, so a replay writes the missing rows again.
    restore(&env, "created_users").await;
    assert_eq!(
        exit_code_of(&env, "verify").await,
        Some(1),
        "verify did not find the missing rows"
    );
    assert_eq!(exit_code_of(&env, "replay --from-offset 0 --yes").await, Some(0));
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    env.assert_nothing_lost_or_rejected().await;
    stop(&mut streamer).await;
    assert_eq!(exit_code_of(&env, "verify").await, Some(0));
}
