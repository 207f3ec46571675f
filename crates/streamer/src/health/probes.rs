//! Health probes for topic and table.
//!
//! They report readiness and lag, feed stall detection, and detect a replaced topic or table. They change nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::error::RDKafkaErrorCode;
use service::Dependency;
use tokio::time::sleep;
use uuid::Uuid;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::schema::truncation::TruncationWatch;
use crate::cassandra::schema::{self, SchemaError, TableInfo};
use crate::cassandra::session::Session;
use crate::cassandra::session_pool::{SessionError, SessionPool};
use crate::consumer::group_membership::GroupMembership;
use crate::consumer::last_poll::LastPoll;
use crate::dead_letters::halted_partitions::HaltedPartitions;
use crate::dead_letters::log::DeadLetterLog;
use crate::health::lazy_dependency::LazyDependency;
use crate::health::stall_detector::{PartitionProgress, StallDetector};
use crate::metrics::StreamerMetrics;
use crate::pipeline::AssignedPartitions;
use ::kafka::{Group, MetadataClient, TopicInfo, Watermarks, same_topic};

/// Probes the topic.
pub struct KafkaProbe {
    /// Sends the requests.
    pub metadata: Arc<MetadataClient>,
    /// The topic of this process.
    pub topic: TopicInfo,
    /// The topic's number of partitions, updated by the probe.
    pub partitions: Arc<AtomicI32>,
    /// The partitions whose lag is reported.
    pub assigned: AssignedPartitions,
    /// The consumer's last poll.
    pub last_poll: Arc<LastPoll>,
    /// Whether the consumer can join its group.
    pub membership: Arc<GroupMembership>,
    /// The group in `/readyz`, while other applications hold partitions.
    pub foreign_members: Arc<LazyDependency>,
    /// Kafka in `/readyz`.
    pub dependency: Dependency,
    /// Lag and end offsets.
    pub metrics: Arc<StreamerMetrics>,
    /// The inputs of stall detection.
    pub stall_inputs: StallInputs,
    /// Its counts are logged after each minute.
    pub dead_letter_log: Arc<DeadLetterLog>,
    /// The interval between two probes.
    pub interval: Duration,
}

/// The inputs that distinguish a stall from an outage.
pub struct StallInputs {
    /// Detects stalls.
    pub detector: Arc<StallDetector>,
    /// Partitions that are halted deliberately.
    pub halted: Arc<HaltedPartitions>,
    /// While Cassandra is not ready, there is no stall.
    pub cassandra: Dependency,
    /// While the dead-letter topic is not ready, there is no stall.
    pub dead_letter_topic: Arc<LazyDependency>,
}

impl StallInputs {
    /// Passes the progress to the detector. Failed attempts since the last probe reset it, because a reachable server
    /// may still reject requests.
    fn observe(&self, failures: &mut u64, metrics: &StreamerMetrics, progress: &[PartitionProgress]) {
        let before = std::mem::replace(failures, metrics.failures());
        let ready = self.cassandra.is_ready() && self.dead_letter_topic.is_ready();
        if ready && before == *failures {
            self.detector.observe(Instant::now(), progress);
        } else {
            self.detector.reset(Instant::now());
        }
    }
}

/// How often the members of the group are requested.
const MEMBERS_INTERVAL: Duration = Duration::from_secs(10);

impl KafkaProbe {
    /// Returns only when the topic was replaced or deleted, with the reason.
    pub async fn run(&self) -> &'static str {
        let mut failures = self.metrics.failures();
        let mut moved = BTreeMap::new();
        let mut topic_id = self.topic.id;
        let mut members_requested: Option<Instant> = None;
        loop {
            self.dead_letter_log.log_left_out();
            self.metrics
                .poll_gap
                .set(self.last_poll.longest_gap().as_secs_f64());
            let assigned: Vec<_> = self
                .assigned
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .keys()
                .copied()
                .collect();
            match self
                .metadata
                .request(move |metadata| {
                    let topic = metadata.topic()?;
                    metadata.coordinator()?;
                    // The high watermarks first: read later, they would include records that were committed in between.
                    let high = metadata.high_watermarks(&assigned)?;
                    Ok((topic, metadata.watermarks(&assigned)?, high))
                })
                .await
            {
                Ok((topic, ..)) if is_recreated(&mut topic_id, topic.id) => return "topic_recreated",
                Ok((topic, Watermarks { offsets, missing }, high)) => {
                    self.partitions.store(topic.partitions, Ordering::Relaxed);
                    let progress = self.report(&offsets, &high);
                    self.report_readiness(&missing);
                    self.stall_inputs.observe(&mut failures, &self.metrics, &progress);
                    self.report_ages(&mut moved, &progress);
                }
                Err(error)
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) =>
                {
                    return "topic_gone";
                }
                Err(error) => {
                    self.dependency.unready(self.metadata.describe(&error));
                    self.stall_inputs.detector.reset(Instant::now());
                }
            }
            if members_requested.is_none_or(|at| at.elapsed() >= MEMBERS_INTERVAL) {
                if let Ok(group) = self.metadata.request(|metadata| metadata.group()).await {
                    self.report_members(&group);
                }
                members_requested = Some(Instant::now());
            }
            sleep(self.interval).await;
        }
    }

    /// Kafka is ready once its brokers respond and lead every assigned partition, unless they do not let the consumer join
    /// its group.
    fn report_readiness(&self, missing: &BTreeMap<i32, String>) {
        if let Some(error) = self.membership.join_error() {
            self.dependency.unready(format!(
                "failed to join the group: {error}. Check kafka.session_timeout against the brokers' limits, and whether \
                 another application uses kafka.group"
            ));
        } else if let Some((_, reason)) = missing.first_key_value() {
            let partitions: Vec<_> = missing.keys().map(ToString::to_string).collect();
            let partitions = partitions.join(", ");
            self.dependency
                .unready(format!("can't read partitions {partitions}: {reason}"));
        } else {
            self.dependency.ready();
        }
    }

    /// Reports members that hold partitions and are no streamers: the records of those do not become rows.
    fn report_members(&self, group: &Group) {
        let Group::Members(members) = group else {
            return;
        };
        let foreign: Vec<_> = members
            .iter()
            .filter(|member| self.metadata.is_foreign(member) && !member.partitions.is_empty())
            .map(ToString::to_string)
            .collect();
        if foreign.is_empty() {
            self.foreign_members.ready();
        } else {
            self.foreign_members.unready(format!(
                "members of kafka.group that are not streamers hold partitions, whose records do not become rows: {}",
                foreign.join("; ")
            ));
        }
    }

    /// `moved` holds each partition's checkpoint and the time when it last moved or was at the end of the log.
    fn report_ages(&self, moved: &mut BTreeMap<i32, (i64, Instant)>, progress: &[PartitionProgress]) {
        let now = Instant::now();
        moved.retain(|partition, _| progress.iter().any(|progress| progress.partition == *partition));
        for progress in progress {
            let last_move = moved
                .entry(progress.partition)
                .or_insert((progress.checkpoint, now));
            if last_move.0 != progress.checkpoint || progress.checkpoint >= progress.end {
                *last_move = (progress.checkpoint, now);
            }
            self.metrics
                .checkpoint_age
                .with_label_values(&[&progress.partition.to_string()])
                .set((now - last_move.1).as_secs_f64());
        }
    }

    /// Reports lag and end offset of each assigned partition whose leader has responded, and returns their progress. The lag
    /// includes open transactions. The progress does not, because their records can't be read.
    fn report(
        &self,
        offsets: &BTreeMap<i32, (i64, i64)>,
        high: &BTreeMap<i32, i64>,
    ) -> Vec<PartitionProgress> {
        let mut progress = Vec::with_capacity(offsets.len());
        let assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, (_, end)) in offsets {
            let Some(Some(checkpointed)) = assigned.get(partition) else {
                continue;
            };
            let label = partition.to_string();
            let high = high.get(partition).copied().unwrap_or(*end).max(*end);
            self.metrics.end_offset.with_label_values(&[&label]).set(high);
            self.metrics
                .open_transaction
                .with_label_values(&[&label])
                .set(high - end);
            self.metrics
                .lag
                .with_label_values(&[&label])
                .set((high - checkpointed).max(0));
            progress.push(PartitionProgress {
                partition: *partition,
                checkpoint: *checkpointed,
                end: *end,
                halted: self.stall_inputs.halted.contains(*partition),
            });
        }
        progress
    }
}

/// Whether the topic is another one than the `known`. An id that was unknown becomes known after an upgrade of the brokers.
fn is_recreated(known: &mut Uuid, found: Uuid) -> bool {
    let is_other = !same_topic(*known, found);
    if known.is_nil() {
        *known = found;
    }
    is_other
}

/// Probes the table.
pub struct CassandraProbe {
    /// Provides sessions.
    pub sessions: Arc<SessionPool>,
    /// The table of this process.
    pub table: TableInfo,
    /// The interval between two probes.
    pub interval: Duration,
}

/// Why the table probe ended.
#[derive(Debug)]
pub enum TableProbeOutcome {
    /// The table was dropped or replaced.
    OtherTable,
    /// No session can be built.
    Session(SessionError),
}

impl CassandraProbe {
    /// Returns only when the process can't continue.
    pub async fn run(&self) -> TableProbeOutcome {
        let mut truncations = TruncationWatch::default();
        loop {
            let session = match self.sessions.get().await {
                Ok(session) => session,
                Err(error) => return TableProbeOutcome::Session(error),
            };
            match self.table(&session).await {
                Ok(FoundTable::Same) => {
                    self.sessions.readiness().table_verified();
                    self.watch_truncation(&session, &mut truncations).await;
                }
                Ok(FoundTable::Disputed) => self
                    .sessions
                    .readiness()
                    .dependency()
                    .unready("the nodes disagree whether the table was dropped or replaced"),
                Ok(FoundTable::Other) => return TableProbeOutcome::OtherTable,
                Err(SchemaError::Failed {
                    error: ErrorClass::Reconnect { error, .. },
                    ..
                }) => {
                    self.sessions.readiness().dependency().unready(error);
                }
                Err(error) => self.sessions.readiness().dependency().unready(error.to_string()),
            }
            sleep(self.interval).await;
        }
    }

    /// The rows may have been truncated on purpose, so the streamer goes on.
    async fn watch_truncation(&self, session: &Session, truncations: &mut TruncationWatch) {
        match truncations.check(session, self.table.table_id).await {
            Ok(None) => {}
            Ok(Some(at)) => {
                let at = Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |at| at.to_string());
                tracing::error!(
                    table = self.sessions.settings().qualified_table(),
                    at,
                    "the table was truncated: its rows are lost, and no later start reads them again; `streamer replay` \
                     writes them again"
                );
            }
            // The next probe of the table reports a lost session.
            Err(error) => tracing::debug!(%error, "failed to read the table's truncation time"),
        }
    }

    /// A node may not know the table, because its schema lags or it has lost it. So one result ends nothing.
    async fn table(&self, session: &Session) -> Result<FoundTable, SchemaError> {
        let query = || async {
            let session = self.sessions.get().await.map_err(|error| no_session(&error))?;
            schema::table_id(&session, self.sessions.settings()).await
        };
        let known = Some(self.table.table_id);
        if query().await? == known {
            return Ok(FoundTable::Same);
        }
        // All results may be those of one node that lags behind.
        if !schema::wait_for_agreement(session).await? {
            return Ok(FoundTable::Disputed);
        }
        confirm(known, query).await
    }
}

/// The next call of [`SessionPool::get`] reports the error itself.
fn no_session(error: &SessionError) -> SchemaError {
    SchemaError::Failed {
        operation: "query the table's id",
        error: ErrorClass::Reconnect {
            label: "session",
            error: service::process::chain(error),
        },
    }
}

/// What the nodes report about the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FoundTable {
    /// It is the table of this process.
    Same,
    /// Some nodes report this table, others none or another one.
    Disputed,
    /// It was dropped or replaced.
    Other,
}

/// Results that must agree. Each query goes to the next node.
const CONFIRMATIONS: usize = 5;
const CONFIRMATION_DELAY: Duration = Duration::from_millis(100);

/// Checks again whether the table is another one than `known`.
async fn confirm<F>(known: Option<Uuid>, query: impl Fn() -> F) -> Result<FoundTable, SchemaError>
where
    F: Future<Output = Result<Option<Uuid>, SchemaError>>,
{
    for _ in 0..CONFIRMATIONS {
        sleep(CONFIRMATION_DELAY).await;
        if query().await? == known {
            return Ok(FoundTable::Disputed);
        }
    }
    Ok(FoundTable::Other)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn topic_id_is_learned_and_may_be_unknown_later() {
        let [one, other, unknown] = [1, 2, 0].map(Uuid::from_u128);
        let mut known = unknown;
        let found = [unknown, one, unknown, one, other].map(|found| is_recreated(&mut known, found));
        assert_eq!(found, [false, false, false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn table_is_replaced_only_if_every_result_says_that() {
        let known = Some(Uuid::from_u128(1));
        for (same_at, expected) in [
            (0, FoundTable::Disputed),
            (CONFIRMATIONS - 1, FoundTable::Disputed),
            (CONFIRMATIONS, FoundTable::Other),
        ] {
            let queries = Cell::new(0);
            let query = || {
                let number = queries.replace(queries.get() + 1);
                std::future::ready(Ok(known.filter(|_| number == same_at)))
            };
            assert_eq!(confirm(known, query).await.unwrap(), expected, "{same_at}");
        }
    }
}
