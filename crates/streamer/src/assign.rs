//! From an assignment to the offsets where its partitions start: what the topic holds, what the checkpoints say, and
//! the new checkpoints that are needed, stored and read back before the first record.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::error::KafkaError;
use service::{Backoff, failpoint};
use thiserror::Error;
use tokio::time::sleep;

use crate::cassandra::checkpoints::Checkpoints;
use crate::cassandra::fault::Fault;
use crate::cassandra::schema::Verified;
use crate::cassandra::sessions::{Sessions, Unusable};
use crate::checkpoint::{self, Because, Checkpoint, Known, NoStart, Start};
use crate::clock::wall_micros;
use crate::kafka::broker::{Broker, Topic};
use crate::kafka::client;
use crate::settings::{OnMissing, Settings};

/// Why no start can be found.
#[derive(Debug, Error)]
pub enum AssignError {
    /// No session can be had.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// Policy or data forbid it.
    #[error(transparent)]
    NoStart(#[from] NoStart),
    /// Cassandra refuses.
    #[error("cassandra refuses the checkpoints: {0}")]
    Cassandra(String),
    /// Kafka refuses.
    #[error("kafka refuses to tell of the topic")]
    Kafka(#[source] KafkaError),
    /// What was stored is not what is read back.
    #[error(
        "the checkpoint of partition {partition} was written and is not read back: another writer's is in its place, \
         with a write timestamp that ours does not reach"
    )]
    NotReadBack {
        /// The partition.
        partition: i32,
    },
    /// The topic was recreated in the meantime.
    #[error("the topic changed")]
    TopicChanged,
}

/// What finding a start needs.
pub struct Assigner {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// Cassandra.
    pub sessions: Arc<Sessions>,
    /// The checkpoints in it.
    pub checkpoints: Arc<Checkpoints>,
    /// Kafka.
    pub broker: Arc<Broker>,
    /// The topic that the process works on.
    pub topic: Topic,
    /// The table that it writes.
    pub verified: Verified,
}

impl Assigner {
    /// Where each of `partitions` starts. Waits, however long it takes, while a server does not answer.
    ///
    /// # Errors
    /// [`AssignError`], when waiting would not help.
    pub async fn starts(&self, partitions: Vec<i32>) -> Result<Vec<Start>, AssignError> {
        let mut delays = Backoff::default().delays();
        loop {
            match self.attempt(&partitions).await {
                Ok(starts) => return Ok(starts),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(reason)) => tracing::warn!(reason, "start not found yet"),
            }
            if let Some(delay) = delays.next() {
                sleep(delay).await;
            }
        }
    }

    async fn attempt(&self, partitions: &[i32]) -> Result<Vec<Start>, Failure> {
        let live = self.sessions.live().await.map_err(AssignError::from)?;
        let found = self.checkpoints.load(&live).await?;
        let asked = partitions.to_vec();
        let mistaken = failpoint::inject("group_commit_as_start");
        let committed = mistaken || self.settings.checkpoint.on_missing == OnMissing::Group;
        let (topic, watermarks, committed) = self
            .broker
            .ask(move |broker| {
                let committed = if committed {
                    broker.committed(&asked)?
                } else {
                    vec![None; asked.len()]
                };
                Ok((broker.topic()?, broker.watermarks(&asked)?, committed))
            })
            .await?;
        if topic.id != self.topic.id {
            return Err(AssignError::TopicChanged.into());
        }
        let by_partition: BTreeMap<_, _> = found
            .iter()
            .map(|checkpoint| (checkpoint.partition, *checkpoint))
            .collect();
        let group_has_checkpoints = found.iter().any(|checkpoint| checkpoint.topic_id == topic.id);
        let now = wall_micros();
        let mut starts = Vec::with_capacity(partitions.len());
        for ((partition, (beginning, end)), committed) in partitions.iter().zip(watermarks).zip(committed) {
            let known = Known {
                partition: *partition,
                checkpoint: by_partition.get(partition).copied(),
                group_has_checkpoints,
                topic_id: topic.id,
                table_id: self.verified.table_id,
                beginning,
                end,
                committed,
            };
            let mut start =
                checkpoint::start(&known, &self.settings.checkpoint, now).map_err(AssignError::from)?;
            if let Some(committed) = committed.filter(|_| mistaken) {
                start.checkpoint.position.next_offset = committed;
            }
            starts.push(start);
        }
        self.store(&starts).await?;
        Ok(starts)
    }

    /// Stores the starts that are new, and reads them back.
    async fn store(&self, starts: &[Start]) -> Result<(), Failure> {
        let new: Vec<_> = starts
            .iter()
            .filter(|start| start.because != Because::Checkpoint)
            .map(|start| start.checkpoint)
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let live = self.sessions.live().await.map_err(AssignError::from)?;
        self.checkpoints.save(&live, &self.settings, &new).await?;
        let stored = self.checkpoints.load(&live).await?;
        Ok(compare(&new, &stored)?)
    }
}

/// Holds what was written against what is read back. Further in the same epoch is another member's, and true.
///
/// # Errors
/// [`AssignError::NotReadBack`].
pub fn compare(written: &[Checkpoint], read: &[Checkpoint]) -> Result<(), AssignError> {
    for checkpoint in written {
        let is_there = read.iter().any(|read| {
            read.partition == checkpoint.partition
                && (read.epoch, read.topic_id, read.table_id)
                    == (checkpoint.epoch, checkpoint.topic_id, checkpoint.table_id)
                && read.position.next_offset >= checkpoint.position.next_offset
        });
        if !is_there {
            return Err(AssignError::NotReadBack {
                partition: checkpoint.partition,
            });
        }
    }
    Ok(())
}

enum Failure {
    Passing(String),
    Final(AssignError),
}

impl From<AssignError> for Failure {
    fn from(error: AssignError) -> Self {
        Self::Final(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Fatal(error) | Fault::Invalid(error) => Self::Final(AssignError::Cassandra(error)),
            fault => Self::Passing(format!("{fault:?}")),
        }
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        if client::is_refused(&error) {
            Self::Final(AssignError::Kafka(error))
        } else {
            Self::Passing(error.to_string())
        }
    }
}
