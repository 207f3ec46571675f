//! What the servers say of the group, its topic and its table at one moment.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::cassandra::schema;
use crate::checkpoint::Known;
use crate::commands::error::CommandError;
use crate::commands::servers::{self, Servers};
use crate::kafka::broker::Topic;

/// What is known of every partition of the topic.
pub(super) struct Situation {
    /// The topic now.
    pub(super) topic: Topic,
    /// The table's id now; none, if there is no table.
    pub(super) table_id: Option<Uuid>,
    /// One for each partition.
    pub(super) partitions: Vec<Known>,
}

impl Situation {
    /// Asks both servers.
    ///
    /// # Errors
    /// When one refuses, or has not answered in time.
    pub(super) async fn ask(servers: &Servers) -> Result<Self, CommandError> {
        let (topic, watermarks) = servers.kafka(servers::watermarks).await?;
        let found = servers.checkpoints().await?;
        let cassandra = &servers.settings().cassandra;
        let table_id = servers
            .cassandra(async |live| schema::table_id(live, cassandra).await)
            .await?;
        let checkpoints: BTreeMap<_, _> = found.iter().map(|it| (it.partition, *it)).collect();
        let partitions = (0..topic.partitions)
            .zip(watermarks)
            .map(|(partition, (beginning, end))| Known {
                partition,
                checkpoint: checkpoints.get(&partition).copied(),
                group_has_checkpoints: !found.is_empty(),
                topic_id: topic.id,
                // No table has the nil id, so that where there is no table every checkpoint names another one.
                table_id: table_id.unwrap_or_default(),
                beginning,
                end,
                committed: None,
            })
            .collect();
        Ok(Self {
            topic,
            table_id,
            partitions,
        })
    }
}
