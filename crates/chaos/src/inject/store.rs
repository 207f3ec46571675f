//! Faults of what the streamers keep in Cassandra, done as an operator would do them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::{Effect, Scene};
use crate::RoundError;

/// For a service to notice that its table is gone.
const DEADLINE: Duration = Duration::from_secs(30);
/// Rows that are written after a snapshot.
const LATER: Duration = Duration::from_secs(3);
const SNAPSHOT: &str = "chaos";

impl Scene<'_> {
    /// The next start has none and reads from the beginning: every row is written again, and none changes.
    pub(super) async fn checkpoints_deleted(&self) -> Result<Effect, RoundError> {
        let began = self.now();
        self.while_nobody_reads(async {
            self.pause.hold();
            let name = &self.plot.name;
            let delete = format!(
                "DELETE FROM {{ks}}.stream_checkpoints WHERE group_id = '{name}' AND topic = '{name}'"
            );
            self.table().await?.run(&delete).await?;
            self.pause.release();
            Ok(())
        })
        .await?;
        Ok(self.restarted(began, self.crew.streamers()))
    }

    /// Each streamer must notice and end with 78; the operator replays the topic into a new table.
    pub(super) async fn table_dropped(&self) -> Result<Effect, RoundError> {
        let began = self.now();
        self.pause.hold();
        self.table().await?.run("DROP TABLE {ks}.created_users").await?;
        let streamers = self.crew.streamers();
        for who in &streamers {
            let mut service = self.crew.get(*who).await;
            match service.wait(DEADLINE).await {
                Ok(Some(78)) => service.mark_ended(),
                ended => {
                    self.crew.note(format!(
                        "{who} was to end with 78 for the dropped table: {ended:?}"
                    ));
                    self.crew.kill(*who, &mut service).await?;
                    service.mark_ended();
                }
            }
        }
        self.replay().await?;
        self.pause.release();
        for who in &streamers {
            self.crew.revive(*who, &mut *self.crew.get(*who).await).await?;
        }
        Ok(self.restarted(began, streamers))
    }

    /// The server forgets the prepared statements of a table whose columns change, on the open connections, too.
    pub(super) async fn table_altered(&self, lasts: Duration) -> Result<Effect, RoundError> {
        let began = self.now();
        let table = self.table().await?;
        table
            .run("ALTER TABLE {ks}.created_users ADD nobodys text")
            .await?;
        sleep(lasts).await;
        table.run("ALTER TABLE {ks}.created_users DROP nobodys").await?;
        Ok(self.effect(began))
    }

    /// What was written after the snapshot is missing, and the checkpoints are beyond it, until the operator replays.
    pub(super) async fn table_restored(&self) -> Result<Effect, RoundError> {
        let began = self.now();
        let keyspace = &self.plot.name;
        let nodetool = self.venue.stack.cassandra.nodetool();
        let qualified = format!("{keyspace}.created_users");
        nodetool
            .run(&["snapshot", "--tag", SNAPSHOT, "--kt-list", &qualified])
            .await?;
        let backup = self.keep_snapshot()?;
        sleep(LATER).await;
        self.while_nobody_reads(async {
            self.pause.hold();
            let table = self.table().await?;
            let before = table.count().await?;
            table.run("TRUNCATE {ks}.created_users").await?;
            let from = backup.to_string_lossy();
            nodetool
                .run(&["import", "--copy-data", keyspace, "created_users", &from])
                .await?;
            let after = table.count().await?;
            if after == 0 || after >= before {
                return Err(RoundError::Refused {
                    what: "a snapshot of some rows",
                    log: format!("{after} rows of {before}"),
                });
            }
            self.replay().await?;
            self.pause.release();
            Ok(())
        })
        .await?;
        Ok(self.restarted(began, self.crew.streamers()))
    }

    /// Copies a snapshot away, as a backup does; `nodetool import` wants the names of keyspace and table in the path.
    fn keep_snapshot(&self) -> Result<PathBuf, RoundError> {
        let node = self.venue.stack.cassandra.node(0)?;
        let tables = node.folder().join("data").join(&self.plot.name);
        let name = |path: &PathBuf| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let table = entries(&tables)?
            .into_iter()
            .find(|path| name(path).starts_with("created_users-"))
            .unwrap_or_default();
        let backup = self
            .plot
            .folder
            .join("backup")
            .join(&self.plot.name)
            .join("created_users");
        fs::create_dir_all(&backup).map_err(failed(&backup))?;
        for file in entries(&table.join("snapshots").join(SNAPSHOT))? {
            fs::copy(&file, backup.join(name(&file))).map_err(failed(&file))?;
        }
        Ok(backup)
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, RoundError> {
    let entries = fs::read_dir(folder).map_err(failed(folder))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(failed(folder))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> RoundError {
    let path = path.to_owned();
    move |source| RoundError::Folder {
        path: path.clone(),
        source,
    }
}
