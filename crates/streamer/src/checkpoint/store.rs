//! Reads and writes checkpoints in Cassandra. [`checkpoint`](crate::checkpoint) resolves start offsets from them.

use std::sync::Arc;

use cdrs_tokio::statement::StatementParams;
use cdrs_tokio::types::rows::Row;
use cdrs_tokio::types::value::Value;
use cdrs_tokio::types::{ByName as _, IntoRustByName};
use futures::future::try_join_all;
use model::Contract;
use uuid::Uuid;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::session::Session;
use crate::cassandra::{prepare, statements};
use crate::checkpoint::Checkpoint;
use crate::config::Settings;
use crate::dead_letters::stats::DeadLetterStats;
use crate::pipeline::position::Position;
use crate::pipeline::row::bind_i64;
use crate::pipeline::write_timestamp::{MaxSeen, wall_millis};

/// The checkpoints of one consumer group and topic.
pub struct CheckpointStore {
    contract: Arc<Contract>,
    group: String,
    topic: String,
    instance: String,
    select: String,
}

impl CheckpointStore {
    /// Creates the store of the configured group and topic. `instance` is stored for operators.
    pub fn new(settings: &Settings, contract: Arc<Contract>, instance: String) -> Self {
        let table = format!(
            "{}.{}",
            settings.cassandra.keyspace, settings.cassandra.checkpoint_table
        );
        Self {
            contract,
            group: settings.kafka.group.clone(),
            topic: settings.kafka.topic().to_owned(),
            instance,
            select: format!("SELECT * FROM {table} WHERE group_id = ? AND topic = ?"),
        }
    }

    /// Reads all checkpoints of the group and topic.
    ///
    /// # Errors
    /// The [`ErrorClass`] of the read; [`ErrorClass::Fatal`] for an invalid row.
    pub async fn load(&self, session: &Session) -> Result<Vec<Checkpoint>, ErrorClass> {
        let rows = session
            .query(&self.select, vec![text(&self.group), text(&self.topic)])
            .await?;
        rows.iter().map(read).collect()
    }

    /// Writes checkpoints, each with its own write timestamp.
    ///
    /// # Errors
    /// The first [`ErrorClass`]; other checkpoints may be written.
    pub async fn save(
        &self,
        session: &Session,
        settings: &Settings,
        checkpoints: &[Checkpoint],
    ) -> Result<(), ErrorClass> {
        let save = &prepare::statements(session, &settings.cassandra, &self.contract)
            .await?
            .save_checkpoint;
        let parameters: Vec<_> = checkpoints
            .iter()
            .map(|checkpoint| self.parameters(session, checkpoint))
            .collect();
        try_join_all(
            parameters
                .iter()
                .map(|parameters| session.execute(save, parameters)),
        )
        .await
        .map(drop)
    }

    fn parameters(&self, session: &Session, checkpoint: &Checkpoint) -> StatementParams {
        let Checkpoint {
            partition,
            position,
            epoch,
            topic_id,
            table_id,
        } = *checkpoint;
        let values = vec![
            text(&self.group),
            text(&self.topic),
            int(partition),
            bind_i64(position.next_offset),
            position.leader_epoch.map_or(Value::Null, int),
            bind_i64(position.next_offset),
            position.last_write_timestamp.map_or(Value::Null, bind_i64),
            bind_i64(position.max_seen.offset),
            position.max_seen.write_timestamp.map_or(Value::Null, bind_i64),
            position.max_seen.ceiling.map_or(Value::Null, bind_i64),
            bind_i64(epoch),
            uuid(topic_id),
            uuid(table_id),
            int(position.dead_letters.consecutive),
            int(position.dead_letters.ratio),
            bind_i64(wall_millis()),
            text(&self.instance),
            bind_i64(checkpoint.write_timestamp()),
        ];
        statements::parameters(values, session.consistency())
    }
}

fn read(row: &Row) -> Result<Checkpoint, ErrorClass> {
    Ok(Checkpoint {
        partition: required(row, "partition")?,
        position: Position {
            next_offset: required(row, "next_offset")?,
            leader_epoch: leader_epoch(row)?,
            last_write_timestamp: row.by_name("last_stamp").unwrap_or_default(),
            max_seen: MaxSeen {
                offset: required(row, "high_offset")?,
                write_timestamp: row.by_name("high_stamp").unwrap_or_default(),
                ceiling: row.by_name("ceiling").unwrap_or_default(),
            },
            dead_letters: DeadLetterStats {
                consecutive: required(row, "consecutive_dead_letters")?,
                // Checkpoints of an earlier version have no ratio.
                ratio: row
                    .by_name("dead_letter_share")
                    .ok()
                    .flatten()
                    .unwrap_or_default(),
            },
        },
        epoch: required(row, "epoch")?,
        topic_id: required(row, "topic_id")?,
        table_id: required(row, "table_id")?,
    })
}

/// The leader epoch, unless a member of an earlier version has moved the checkpoint without it.
fn leader_epoch(row: &Row) -> Result<Option<i32>, ErrorClass> {
    let next_offset: i64 = required(row, "next_offset")?;
    let offset: Option<i64> = row.by_name("leader_epoch_offset").unwrap_or_default();
    Ok(row
        .by_name("leader_epoch")
        .unwrap_or_default()
        .filter(|_| offset == Some(next_offset)))
}

fn required<T>(row: &Row, column: &str) -> Result<T, ErrorClass>
where
    Row: IntoRustByName<T>,
{
    row.get_r_by_name(column)
        .map_err(|error| ErrorClass::Fatal(format!("invalid checkpoint: column {column}: {error}")))
}

fn text(text: &str) -> Value {
    Value::Some(text.as_bytes().to_vec())
}

fn int(number: i32) -> Value {
    Value::Some(number.to_be_bytes().to_vec())
}

fn uuid(uuid: Uuid) -> Value {
    Value::Some(uuid.as_bytes().to_vec())
}

/// Returns the host and process id, which identify the writer of a checkpoint to operators.
pub(crate) fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}
