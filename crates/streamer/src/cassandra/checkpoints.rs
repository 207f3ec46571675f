//! Reading and writing checkpoints. Where to start because of them is [`checkpoint`](crate::checkpoint)'s decision.

use cdrs_tokio::statement::StatementParams;
use cdrs_tokio::types::rows::Row;
use cdrs_tokio::types::value::Value;
use cdrs_tokio::types::{ByName as _, IntoRustByName};
use futures::future::try_join_all;
use uuid::Uuid;

use crate::cassandra::fault::Fault;
use crate::cassandra::session::Live;
use crate::cassandra::statements;
use crate::checkpoint::Checkpoint;
use crate::clock::{HighMark, wall_micros};
use crate::progress::Position;
use crate::row::bind_i64;
use crate::settings::Settings;
use crate::tally::Tally;

/// The checkpoints of one consumer group on one topic.
pub struct Checkpoints {
    group: String,
    topic: String,
    instance: String,
    select: String,
}

impl Checkpoints {
    /// Those of the configured group and topic; `instance` is written beside them, for people.
    pub fn new(settings: &Settings, instance: String) -> Self {
        let table = format!(
            "{}.{}",
            settings.cassandra.keyspace, settings.cassandra.checkpoint_table
        );
        Self {
            group: settings.kafka.group.clone(),
            topic: settings.kafka.topic.clone(),
            instance,
            select: format!("SELECT * FROM {table} WHERE group_id = ? AND topic = ?"),
        }
    }

    /// Every checkpoint of the group on the topic.
    ///
    /// # Errors
    /// The [`Fault`] of the read; a row that can't be read is [`Fault::Fatal`].
    pub async fn load(&self, live: &Live) -> Result<Vec<Checkpoint>, Fault> {
        let rows = live
            .query(&self.select, vec![text(&self.group), text(&self.topic)])
            .await?;
        rows.iter().map(read).collect()
    }

    /// Writes checkpoints, each under its own write timestamp.
    ///
    /// # Errors
    /// The first [`Fault`]; the others may be written.
    pub async fn save(
        &self,
        live: &Live,
        settings: &Settings,
        checkpoints: &[Checkpoint],
    ) -> Result<(), Fault> {
        let save = &live.statements(&settings.cassandra).await?.save_checkpoint;
        let parameters: Vec<_> = checkpoints
            .iter()
            .map(|checkpoint| self.parameters(live, checkpoint))
            .collect();
        try_join_all(parameters.iter().map(|parameters| live.execute(save, parameters)))
            .await
            .map(drop)
    }

    fn parameters(&self, live: &Live, checkpoint: &Checkpoint) -> StatementParams {
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
            position.last_stamp.map_or(Value::Null, bind_i64),
            bind_i64(position.high.offset),
            position.high.stamp.map_or(Value::Null, bind_i64),
            position.high.ceiling.map_or(Value::Null, bind_i64),
            bind_i64(epoch),
            uuid(topic_id),
            uuid(table_id),
            int(position.tally.in_a_row),
            int(position.tally.share),
            bind_i64(wall_micros() / 1_000),
            text(&self.instance),
            bind_i64(checkpoint.write_timestamp()),
        ];
        statements::parameters(values, live.consistency())
    }
}

fn read(row: &Row) -> Result<Checkpoint, Fault> {
    Ok(Checkpoint {
        partition: required(row, "partition")?,
        position: Position {
            next_offset: required(row, "next_offset")?,
            last_stamp: row.by_name("last_stamp").unwrap_or_default(),
            high: HighMark {
                offset: required(row, "high_offset")?,
                stamp: row.by_name("high_stamp").unwrap_or_default(),
                ceiling: row.by_name("ceiling").unwrap_or_default(),
            },
            tally: Tally {
                in_a_row: required(row, "consecutive_dead_letters")?,
                // Those of an earlier version have none.
                share: row
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

fn required<T>(row: &Row, column: &str) -> Result<T, Fault>
where
    Row: IntoRustByName<T>,
{
    row.get_r_by_name(column)
        .map_err(|error| Fault::Fatal(format!("a checkpoint can't be read, column {column}: {error}")))
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
