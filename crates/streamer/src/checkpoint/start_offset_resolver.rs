//! Resolves the start offsets of assigned partitions from the log and the checkpoints.
//!
//! New checkpoints are stored and read back before the first record is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::future::try_join_all;
use rdkafka::error::KafkaError;
use service::{Backoff, LogLimiter, failpoint};
use thiserror::Error;
use tokio::time::sleep;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::schema::{self, SchemaError, TableInfo};
use crate::cassandra::session::Session;
use crate::cassandra::session_pool::{SessionError, SessionPool};
use crate::checkpoint::store::CheckpointStore;
use crate::checkpoint::{self, Checkpoint, PartitionInfo, ResolvedStart, StartError, StartReason};
use crate::config::{OnMissing, Settings};
use crate::consumer::partition_check::{PartitionCheck, check};
use crate::ledger::store::LedgerStore;
use crate::pipeline::write_timestamp::wall_micros;
use ::kafka::ClientRejected;
use ::kafka::{MetadataClient, TopicInfo, Watermarks, same_topic};

/// Why the start offsets can't be resolved.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// No session can be built.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The policy or the data forbid the start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Cassandra rejects the checkpoints.
    #[error("cassandra rejected the checkpoints: {0}")]
    Cassandra(String),
    /// Kafka rejects the client.
    #[error(transparent)]
    Kafka(#[from] ClientRejected),
    /// The checkpoint that was read back differs from the one written.
    #[error(
        "the checkpoint of partition {partition} was written but not read back: another writer has stored one with a larger \
         write timestamp"
    )]
    NotReadBack {
        /// The partition.
        partition: i32,
    },
    /// The topic was recreated.
    #[error("the topic was recreated")]
    TopicChanged,
}

/// Resolves start offsets.
pub struct StartOffsetResolver {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// The Cassandra sessions.
    pub sessions: Arc<SessionPool>,
    /// The checkpoint store.
    pub checkpoints: Arc<CheckpointStore>,
    /// The run ledger.
    pub ledger: Arc<LedgerStore>,
    /// The Kafka metadata client.
    pub metadata: Arc<MetadataClient>,
    /// The topic of this process.
    pub topic: TopicInfo,
    /// The table of this process.
    pub table: TableInfo,
    /// The consumer has reported that the log changed: it may have been truncated below a checkpoint.
    pub log_changed: Arc<AtomicBool>,
    /// Limits the lines about failed attempts.
    pub retries: Mutex<LogLimiter>,
}

impl StartOffsetResolver {
    /// Logs a failed attempt, at most once a minute: `/readyz` reports an outage.
    pub fn log_retry(&self, operation: &'static str, reason: &str) {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        if retries.admit(Instant::now()) {
            tracing::warn!(operation, reason, "operation failed, retrying");
        }
    }

    /// Resolves the start of each partition whose leader responds. Retries without limit until there is one.
    ///
    /// # Errors
    /// [`ResolveError`], when a retry would not help.
    pub async fn resolve(&self, partitions: Vec<i32>) -> Result<ResolvedStarts, ResolveError> {
        let mut delays = Backoff::default().delays();
        loop {
            match self.attempt(&partitions).await {
                Ok(Attempt { starts, missing }) => {
                    if let Some(reason) = missing.values().next() {
                        self.log_retry("resolve the start offsets", reason);
                    }
                    if !starts.is_empty() || missing.is_empty() {
                        let pending = missing.into_keys().collect();
                        return Ok(ResolvedStarts { starts, pending });
                    }
                }
                Err(AttemptError::Fatal(error)) => return Err(error),
                Err(AttemptError::Transient(reason)) => {
                    self.log_retry("resolve the start offsets", &reason);
                }
            }
            if let Some(delay) = delays.next() {
                sleep(delay).await;
            }
        }
    }

    async fn attempt(&self, partitions: &[i32]) -> Result<Attempt, AttemptError> {
        let session = self.sessions.get().await.map_err(ResolveError::from)?;
        let found = match self.checkpoints.load(&session).await {
            Err(ErrorClass::Invalid(refusal)) => return Err(self.refused(&session, refusal).await),
            found => found?,
        };
        let requested = partitions.to_vec();
        let mistaken = failpoint::inject("group_commit_as_start");
        let committed = mistaken || self.settings.checkpoint.on_missing == OnMissing::Group;
        let (topic, Watermarks { offsets, mut missing }, committed) = self
            .metadata
            .request(move |metadata| {
                let committed = if committed {
                    metadata.committed(&requested)?
                } else {
                    vec![None; requested.len()]
                };
                Ok((metadata.topic()?, metadata.watermarks(&requested)?, committed))
            })
            .await
            .map_err(|error| self.kafka_error(error))?;
        if !same_topic(topic.id, self.topic.id) {
            return Err(ResolveError::TopicChanged.into());
        }
        let by_partition: BTreeMap<_, _> = found
            .iter()
            .map(|checkpoint| (checkpoint.partition, *checkpoint))
            .collect();
        let group_has_checkpoints = !found.is_empty();
        let earlier_write_timestamp = checkpoint::earlier_write_timestamp(&found, topic.id);
        let now = wall_micros();
        let truncated = self.truncated(&offsets, &by_partition, &mut missing).await?;
        let mut starts = Vec::with_capacity(partitions.len());
        for (partition, committed) in partitions.iter().zip(committed) {
            let Some(&(beginning, end)) = offsets
                .get(partition)
                .filter(|_| !missing.contains_key(partition))
            else {
                continue;
            };
            let info = PartitionInfo {
                partition: *partition,
                checkpoint: by_partition.get(partition).copied(),
                group_has_checkpoints,
                earlier_write_timestamp,
                topic_id: topic.id,
                table_id: self.table.table_id,
                beginning,
                end,
                truncated: truncated.contains(partition),
                committed,
            };
            let mut start = checkpoint::resolve_start(&info, &self.settings.checkpoint, now)
                .map_err(ResolveError::from)?;
            if let Some(committed) = committed.filter(|_| mistaken) {
                start.checkpoint.position.next_offset = committed;
            }
            starts.push(start);
        }
        self.store(&starts).await?;
        if missing.is_empty() {
            self.log_changed.store(false, Ordering::Relaxed);
        }
        Ok(Attempt { starts, missing })
    }

    /// Returns the partitions whose logs were truncated below their checkpoints, and adds those whose leaders don't
    /// respond to `missing`. Sends requests only if the consumer has reported a change, which it does when it begins to
    /// read a truncated log.
    async fn truncated(
        &self,
        offsets: &BTreeMap<i32, (i64, i64)>,
        checkpoints: &BTreeMap<i32, Checkpoint>,
        missing: &mut BTreeMap<i32, String>,
    ) -> Result<BTreeSet<i32>, AttemptError> {
        if !self.log_changed.load(Ordering::Relaxed) {
            return Ok(BTreeSet::new());
        }
        let checks = offsets.keys().filter_map(|partition| {
            let checkpoint = checkpoints.get(partition)?;
            let start = checkpoint.start_offset();
            start.leader_epoch?;
            checkpoint.is_of_topic(self.topic.id).then(|| {
                let settings = Arc::clone(&self.settings);
                tokio::task::spawn_blocking(move || (start.partition, check(&settings.kafka, start)))
            })
        });
        let mut truncated = BTreeSet::new();
        for (partition, result) in try_join_all(checks).await.unwrap_or_default() {
            match result.map_err(|error| self.kafka_error(error)) {
                Ok(PartitionCheck::Truncated) => {
                    truncated.insert(partition);
                }
                Ok(PartitionCheck::Readable | PartitionCheck::Unreadable(_)) => {}
                Err(AttemptError::Transient(reason)) => {
                    missing.insert(partition, reason);
                }
                Err(fatal) => return Err(fatal),
            }
        }
        Ok(truncated)
    }

    fn kafka_error(&self, error: KafkaError) -> AttemptError {
        if ::kafka::is_rejected(&error) {
            let settings = &self.settings.kafka;
            let (topic, group) = (settings.topic(), &settings.group);
            let operation = format!("read the offsets of topic {topic} and group {group}");
            AttemptError::Fatal(ClientRejected::new(&operation, &settings.brokers, error).into())
        } else {
            AttemptError::Transient(self.metadata.describe(&error))
        }
    }

    /// Stores the new starts and reads them back.
    async fn store(&self, starts: &[ResolvedStart]) -> Result<(), AttemptError> {
        let new: Vec<_> = starts
            .iter()
            .filter(|start| start.reason != StartReason::Checkpoint)
            .map(|start| start.checkpoint)
            .collect();
        if new.is_empty() {
            // The checkpoints were read. The next one shows whether they can be written.
            self.sessions.readiness().checkpoints_written();
            return Ok(());
        }
        let session = self.sessions.get().await.map_err(ResolveError::from)?;
        let stored = async {
            self.checkpoints.save(&session, &self.settings, &new).await?;
            self.checkpoints.load(&session).await
        };
        let stored = match stored.await {
            Err(ErrorClass::Invalid(refusal)) => return Err(self.refused(&session, refusal).await),
            stored => stored?,
        };
        self.sessions.readiness().checkpoints_written();
        Ok(verify_read_back(&new, &stored)?)
    }

    /// Returns the error of a refused request.
    async fn refused(&self, session: &Session, refusal: String) -> AttemptError {
        match self.refusal_cause(session, refusal).await {
            RefusalCause::Checkpoints(error) => AttemptError::Fatal(ResolveError::Cassandra(error)),
            RefusalCause::Rows(error) => AttemptError::Fatal(ResolveError::Cassandra(error.to_string())),
            RefusalCause::Server(refusal) => AttemptError::Transient(refusal),
        }
    }

    /// Determines why the server refuses a request about checkpoints, whose values are always valid. The statements are
    /// prepared together, so the table of the rows may be the cause.
    pub async fn refusal_cause(&self, session: &Session, refusal: String) -> RefusalCause {
        let changed = match schema::wait_for_agreement(session).await {
            Ok(true) => self.changed_table(session, &refusal).await,
            // Another node may know the tables as they were verified.
            Ok(false) | Err(_) => None,
        };
        changed.unwrap_or_else(|| {
            self.sessions.readiness().checkpoints_refused(&refusal);
            RefusalCause::Server(refusal)
        })
    }

    async fn changed_table(&self, session: &Session, refusal: &str) -> Option<RefusalCause> {
        let (settings, contract) = (&self.settings.cassandra, self.sessions.contract());
        let different = |error: &SchemaError| !matches!(error, SchemaError::Failed { .. });
        // First, because its error has the remedy for a dropped keyspace.
        let rows = schema::verify(session, settings, contract).await;
        if let Some(error) = rows.err().filter(different) {
            return Some(RefusalCause::Rows(error));
        }
        let has_tables = async {
            Ok::<_, SchemaError>(
                schema::has_checkpoint_table(session, settings).await?
                    && schema::has_ledger(session, settings).await?,
            )
        };
        if let Ok(false) = has_tables.await {
            return Some(RefusalCause::Checkpoints(refusal.to_owned()));
        }
        let checkpoints = match schema::verify_checkpoints(session, settings).await {
            Ok(()) => schema::verify_ledger(session, settings).await,
            failed => failed,
        };
        let changed = checkpoints.err().filter(different);
        changed.map(|error| RefusalCause::Checkpoints(error.to_string()))
    }
}

/// Why the server refuses a request about checkpoints.
pub enum RefusalCause {
    /// The checkpoint table or the run ledger has changed, which only the operator can fix.
    Checkpoints(String),
    /// The table of rows has changed.
    Rows(SchemaError),
    /// It refuses requests for now, with its message.
    Server(String),
}

/// Compares the written checkpoints with those read back. A larger offset of the same epoch is another member's and
/// valid.
///
/// # Errors
/// [`ResolveError::NotReadBack`].
pub fn verify_read_back(written: &[Checkpoint], read: &[Checkpoint]) -> Result<(), ResolveError> {
    for checkpoint in written {
        let is_there = read.iter().any(|read| {
            read.partition == checkpoint.partition
                && (read.epoch, read.table_id) == (checkpoint.epoch, checkpoint.table_id)
                && read.is_of_topic(checkpoint.topic_id)
                && read.position.next_offset >= checkpoint.position.next_offset
        });
        if !is_there {
            return Err(ResolveError::NotReadBack {
                partition: checkpoint.partition,
            });
        }
    }
    Ok(())
}

/// The starts of the partitions whose leaders have responded.
#[derive(Debug)]
pub struct ResolvedStarts {
    /// The start of each of them.
    pub starts: Vec<ResolvedStart>,
    /// The other partitions.
    pub pending: Vec<i32>,
}

struct Attempt {
    starts: Vec<ResolvedStart>,
    /// Why the other partitions have no start.
    missing: BTreeMap<i32, String>,
}

enum AttemptError {
    Transient(String),
    Fatal(ResolveError),
}

impl From<ResolveError> for AttemptError {
    fn from(error: ResolveError) -> Self {
        Self::Fatal(error)
    }
}

impl From<ErrorClass> for AttemptError {
    fn from(error: ErrorClass) -> Self {
        match error {
            ErrorClass::Fatal(error) | ErrorClass::Invalid(error) => {
                Self::Fatal(ResolveError::Cassandra(error))
            }
            error => Self::Transient(error.to_string()),
        }
    }
}
