//! Cassandra is restored from a backup of its files, taken while records flowed, in both of the ways that the operations
//! manual names.

use std::path::{Path, PathBuf};

use crate::commands::{operate, stop};
use crate::guarded::{Guarded, guarded};
use crate::world::DEADLINE;

/// Where a table's snapshot is copied to; `nodetool import` wants the names of keyspace and table in the path.
fn backup_of(world: &Guarded, table: &str) -> PathBuf {
    world.folder().join("backup").join(&world.keyspace).join(table)
}

/// Takes a snapshot of one table and copies it away, as a backup does.
async fn back_up(world: &Guarded, table: &str) {
    let qualified = format!("{}.{table}", world.keyspace);
    let tag = format!("backup-{table}");
    let arguments = ["snapshot", "--tag", &tag, "--kt-list", &qualified];
    world.nodetool().run(&arguments).await.unwrap();
    let tables = world.server().folder().join("data").join(&world.keyspace);
    let snapshot = entries(&tables)
        .into_iter()
        .find(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(&format!("{table}-"))
        })
        .unwrap()
        .join("snapshots")
        .join(&tag);
    let backup = backup_of(world, table);
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
async fn restore(world: &Guarded, table: &str) {
    world
        .table
        .run(&format!("TRUNCATE {{ks}}.{table}"))
        .await
        .unwrap();
    let backup = backup_of(world, table);
    let backup = backup.to_str().unwrap();
    let arguments = ["import", "--copy-data", &world.keyspace, table, backup];
    world.nodetool().run(&arguments).await.unwrap();
}

async fn done(world: &Guarded, arguments: &str) -> Option<i32> {
    let (code, output) = operate(world.options(), arguments).await;
    println!("{arguments}: {code:?}\n{output}");
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_checkpoints_are_the_older_part_or_a_replay_from_before_brings_every_row_back() {
    let world = guarded("restored", 3).await;
    let mut streamer = world.start(&world.options()).await;
    world
        .while_records_flow(async {
            world.busy(&streamer).await;
            back_up(&world, "stream_checkpoints").await;
            world.goes_on().await;
            back_up(&world, "created_users").await;
            world.goes_on().await;
        })
        .await;
    world.caught_up().await;
    stop(&mut streamer).await;

    restore(&world, "created_users").await;
    assert_eq!(
        done(&world, "verify").await,
        Some(1),
        "rows are missing, and it is seen"
    );
    restore(&world, "stream_checkpoints").await;
    let ends = world.tap.end_offsets(&world.topic).await.unwrap();
    let checkpoints = world.table.checkpoints(&world.topic, &world.topic).await.unwrap();
    assert!(
        checkpoints.len() == 3
            && checkpoints
                .iter()
                .all(|(it, checkpoint)| checkpoint.next_offset < ends[it]),
        "the backup's checkpoints are older"
    );
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    world.nothing_is_lost_or_refused().await;
    stop(&mut streamer).await;
    assert_eq!(done(&world, "verify").await, Some(0));

    // The other way: the checkpoints stay, so what is missing has to be written again.
    restore(&world, "created_users").await;
    assert_eq!(
        done(&world, "verify").await,
        Some(1),
        "rows are missing, and it is seen"
    );
    assert_eq!(done(&world, "replay --from-offset 0 --yes").await, Some(0));
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    world.nothing_is_lost_or_refused().await;
    stop(&mut streamer).await;
    assert_eq!(done(&world, "verify").await, Some(0));
}
