//! Changes of the streamers' tables in Cassandra, as an operator makes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;

use super::injector::{FaultEffect, FaultInjector};
use crate::service_id::ServiceId;

/// Rows are written after the snapshot.
const AFTER_SNAPSHOT: Duration = Duration::from_secs(3);
const SNAPSHOT: &str = "chaos";

impl FaultInjector<'_> {
    /// The next start reads from the beginning: every row is written again, and none changes.
    pub(super) async fn delete_checkpoints(&self) -> Result<FaultEffect> {
        let started = self.now();
        self.with_streamers_stopped(async {
            self.gate.close();
            let name = &self.config.name;
            let delete = format!(
                "DELETE FROM {{ks}}.stream_checkpoints WHERE group_id = '{name}' AND topic = '{name}'"
            );
            self.cassandra().await?.run(&delete).await?;
            self.gate.open();
            Ok(())
        })
        .await?;
        Ok(self.restarted(started, ServiceId::streamers()))
    }

    /// Each streamer exits with 78; the operator replays the topic into a new table.
    pub(super) async fn drop_table(&self) -> Result<FaultEffect> {
        let started = self.now();
        self.gate.close();
        self.cassandra().await?.run("DROP TABLE {table}").await?;
        let streamers = ServiceId::streamers();
        for id in &streamers {
            let mut service = self.services.get(*id).await;
            self.expect_exit(*id, &mut service, 78, "the dropped table")
                .await?;
        }
        self.replay().await?;
        self.gate.open();
        for id in &streamers {
            let mut service = self.services.get(*id).await;
            self.services.restart(*id, &mut service).await?;
        }
        Ok(self.restarted(started, streamers))
    }

    /// Cassandra invalidates the prepared statements of a table whose columns change.
    pub(super) async fn alter_table(&self, duration: Duration) -> Result<FaultEffect> {
        let started = self.now();
        let session = self.cassandra().await?;
        session.run("ALTER TABLE {table} ADD unused text").await?;
        sleep(duration).await;
        session.run("ALTER TABLE {table} DROP unused").await?;
        Ok(self.effect(started))
    }

    /// Rows written after the snapshot are missing, and the checkpoints are beyond them, until the operator replays.
    pub(super) async fn restore_table(&self) -> Result<FaultEffect> {
        let started = self.now();
        let keyspace = &self.config.name;
        let nodetool = self.cluster.stack.cassandra.nodetool();
        let table = self.config.record.table();
        let qualified = format!("{keyspace}.{table}");
        nodetool
            .run(&["snapshot", "--tag", SNAPSHOT, "--kt-list", &qualified])
            .await?;
        let backup = self.copy_snapshot()?;
        sleep(AFTER_SNAPSHOT).await;
        self.with_streamers_stopped(async {
            self.gate.close();
            let session = self.cassandra().await?;
            let before = session.count().await?;
            session.run("TRUNCATE {table}").await?;
            let from = backup.to_string_lossy();
            nodetool
                .run(&["import", "--copy-data", keyspace, &table, &from])
                .await?;
            let after = session.count().await?;
            if after == 0 || after >= before {
                bail!("failed to restore a snapshot of some rows: {after} rows of {before}");
            }
            self.replay().await?;
            self.gate.open();
            Ok(())
        })
        .await?;
        Ok(self.restarted(started, ServiceId::streamers()))
    }

    /// Copies the snapshot to a backup. `nodetool import` requires keyspace and table in its path.
    fn copy_snapshot(&self) -> Result<PathBuf> {
        let keyspace = &self.config.name;
        let node = self.cluster.stack.cassandra.node(0)?;
        let name = |path: &PathBuf| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let table = entries(&node.folder().join("data").join(keyspace))?
            .into_iter()
            .find(|path| name(path).starts_with(&format!("{}-", self.config.record.table())))
            .unwrap_or_default();
        let backup = self.config.folder.join("backup");
        let backup = backup.join(keyspace).join(self.config.record.table());
        fs::create_dir_all(&backup).with_context(|| format!("failed to use {}", backup.display()))?;
        for file in entries(&table.join("snapshots").join(SNAPSHOT))? {
            fs::copy(&file, backup.join(name(&file)))
                .with_context(|| format!("failed to use {}", file.display()))?;
        }
        Ok(backup)
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("failed to use {}", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths
        .collect::<Result<_, _>>()
        .with_context(|| format!("failed to use {}", folder.display()))
}
