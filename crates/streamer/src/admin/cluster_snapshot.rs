//! A snapshot of the group, its topic and its table.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::admin::clients::{self, Clients};
use crate::admin::error::CommandError;
use crate::checkpoint::{PartitionInfo, earlier_write_timestamp};
use ::kafka::TopicInfo;

/// The state of all partitions of the topic.
pub(super) struct ClusterSnapshot {
    /// The current topic.
    pub(super) topic: TopicInfo,
    /// The current table id; `None` if the table does not exist.
    pub(super) table_id: Option<Uuid>,
    /// The state of each partition.
    pub(super) partitions: Vec<PartitionInfo>,
    /// The end offset of each partition, open transactions included.
    pub(super) high_watermarks: BTreeMap<i32, i64>,
}

impl ClusterSnapshot {
    /// Requests the snapshot from both servers.
    ///
    /// # Errors
    /// When a server rejects the request, or does not respond in time.
    pub(super) async fn fetch(clients: &Clients) -> Result<Self, CommandError> {
        // The checkpoints first: read after the ends, those of a running streamer would be beyond them.
        let found = clients.checkpoints().await?;
        let table_id = clients.table_id().await?;
        let (high_watermarks, (topic, watermarks)) = clients
            .kafka(|metadata| {
                let partitions: Vec<_> = (0..metadata.topic()?.partitions).collect();
                Ok((
                    metadata.high_watermarks(&partitions)?,
                    clients::watermarks(metadata)?,
                ))
            })
            .await?;
        let checkpoints: BTreeMap<_, _> = found.iter().map(|it| (it.partition, *it)).collect();
        let partitions = (0..topic.partitions)
            .zip(watermarks)
            .map(|(partition, (beginning, end))| PartitionInfo {
                partition,
                checkpoint: checkpoints.get(&partition).copied(),
                group_has_checkpoints: !found.is_empty(),
                earlier_write_timestamp: earlier_write_timestamp(&found, topic.id),
                topic_id: topic.id,
                // No table has the nil id. If the table does not exist, every checkpoint therefore belongs to another
                // one.
                table_id: table_id.unwrap_or_default(),
                beginning,
                end,
                truncated: false,
                committed: None,
            })
            .collect();
        Ok(Self {
            topic,
            table_id,
            partitions,
            high_watermarks,
        })
    }
}
