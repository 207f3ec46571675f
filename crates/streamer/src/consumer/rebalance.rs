//! Handles rebalances.
//!
//! A new partition is read only once its checkpoint is loaded. A revoked partition is released only once its writes
//! in flight are durable, or `kafka.revoke_timeout` has elapsed. Runs on the consumer thread, inside its poll.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::kafka::events::{is_connection_error, log_line};
use ::kafka::{ClientEvents, leader_epoch};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use service::LogLimiter;
use tokio::sync::mpsc;

use crate::consumer::group_membership::GroupMembership;

const SEEK_TIMEOUT: Duration = Duration::from_secs(5);
const SEEK_ATTEMPTS: u32 = 200;
const SEEK_PAUSE: Duration = Duration::from_millis(5);

/// An event of the consumer for the pipeline.
#[derive(Debug)]
pub enum RebalanceEvent {
    /// Partitions were assigned. They are not read before
    /// [`ConsumerCommand::Start`](super::channels::ConsumerCommand::Start).
    Assigned {
        /// The number of the assignment within this process.
        assignment: u64,
        /// All assigned partitions.
        partitions: Vec<i32>,
    },
    /// Partitions were revoked.
    Revoked {
        /// The revoked partitions.
        partitions: Vec<i32>,
        /// Receives the durable offsets once all writes in flight are durable. The receiver is dropped after the
        /// timeout.
        drained: SyncSender<Vec<(i32, i64)>>,
    },
    /// The partitions were lost: another member may already be writing.
    Lost,
    /// The log changed under the consumer: restart from the checkpoints.
    Restart(KafkaError),
    /// A partition holds no record between two offsets: transaction markers or a compacted tail.
    Eof {
        /// The assignment under which the end was reached.
        assignment: u64,
        /// The offset after the last record.
        next_offset: i64,
        /// The partition and the end of its log.
        end: StartOffset,
    },
    /// The records at an offset can't be read, however often they are fetched.
    Unreadable {
        /// The assignment under which they were fetched.
        assignment: u64,
        /// The partition.
        partition: i32,
        /// The offset of the next record.
        offset: i64,
        /// Kafka's error.
        error: KafkaError,
    },
    /// Kafka rejects the client, which only the operator can fix.
    Rejected(KafkaError),
    /// The consumer has failed for good.
    Fatal(KafkaError),
}

/// The rebalance callback and the state that it shares with the poll loop.
pub struct Rebalancer {
    topic: String,
    events: mpsc::Sender<RebalanceEvent>,
    revoke_timeout: Duration,
    membership: Arc<GroupMembership>,
    assigned: Mutex<CurrentAssignment>,
    errors: Mutex<LogLimiter>,
    client: ClientEvents,
}

/// Where a partition is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartOffset {
    /// The partition.
    pub partition: i32,
    /// The offset of the next record.
    pub offset: i64,
    /// The leader epoch of the record before, or of the leader that reported an end behind markers. With it, the
    /// consumer checks that the leader's log still has that record.
    pub leader_epoch: Option<i32>,
}

impl StartOffset {
    /// Moves to a later offset of the partition. No record is in between.
    pub(super) fn skip_to(&mut self, later: Self) {
        if later.offset > self.offset {
            *self = later;
        }
    }
}

/// Assigns partitions of `topic`. For each of the `new` ones whose leader epoch is known, the consumer first checks
/// that the leader's log still has the record before the offset. librdkafka checks that only after a seek.
///
/// # Errors
/// When librdkafka rejects the assignment.
///
/// # Panics
/// As [`assignment`].
pub fn assign<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    all: &[StartOffset],
    new: &[StartOffset],
) -> Result<(), KafkaError> {
    consumer.assign(&assignment(topic, all))?;
    let mut unchecked: Vec<_> = new
        .iter()
        .filter(|start| start.leader_epoch.is_some())
        .copied()
        .collect();
    // A partition takes no seek before its fetch has started.
    for _ in 0..SEEK_ATTEMPTS {
        if unchecked.is_empty() {
            return Ok(());
        }
        let sought = consumer.seek_partitions(assignment(topic, &unchecked), SEEK_TIMEOUT)?;
        unchecked.retain(|start| {
            let element = sought.find_partition(topic, start.partition);
            element.is_none_or(|element| element.error().is_err())
        });
        std::thread::sleep(SEEK_PAUSE);
    }
    Err(KafkaError::Seek(format!("{unchecked:?}")))
}

/// Returns the assignment of partitions of `topic`.
///
/// # Panics
/// When an offset is negative.
pub fn assignment(topic: &str, starts: &[StartOffset]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(starts.len());
    for start in starts {
        list.add_partition_offset(topic, start.partition, Offset::Offset(start.offset))
            .expect("an offset is not negative");
        if let Some(epoch) = start.leader_epoch {
            leader_epoch::set(&mut list, topic, start.partition, epoch);
        }
    }
    list
}

/// Errors of the client that are logged in a minute.
const MAX_LOGGED_ERRORS: u32 = 5;

/// The current assignment.
#[derive(Debug, Default)]
pub struct CurrentAssignment {
    /// Increases with each assignment.
    pub assignment: u64,
    /// The next offset of each partition that is read; empty until the start offsets are known.
    pub next: BTreeMap<i32, StartOffset>,
}

impl Rebalancer {
    pub(super) fn new(
        topic: String,
        events: mpsc::Sender<RebalanceEvent>,
        revoke_timeout: Duration,
        membership: Arc<GroupMembership>,
        client: ClientEvents,
    ) -> Self {
        Self {
            topic,
            events,
            revoke_timeout,
            membership,
            assigned: Mutex::default(),
            errors: Mutex::new(LogLimiter::per_minute(MAX_LOGGED_ERRORS)),
            client,
        }
    }

    fn log_error(&self, error: &KafkaError, reason: &str) {
        let (mut errors, now) = (
            self.errors.lock().unwrap_or_else(PoisonError::into_inner),
            Instant::now(),
        );
        if let Some(left_out) = errors.take_left_out(now) {
            tracing::warn!(left_out, "more kafka client errors");
        }
        if errors.admit(now) {
            tracing::warn!(%error, reason, "kafka client error");
        }
    }

    /// As [`ClientEvents::is_rejected`].
    pub(super) fn is_rejected(&self, error: &KafkaError) -> bool {
        self.client.is_rejected(error)
    }

    pub(super) fn assigned(&self) -> MutexGuard<'_, CurrentAssignment> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an event, unless the channel is full.
    pub(super) fn try_send(&self, event: RebalanceEvent) {
        if let Err(error) = self.events.try_send(event) {
            tracing::debug!(%error, "event not sent");
        }
    }

    /// A sender of events for another thread.
    pub(super) fn sender(&self) -> mpsc::Sender<RebalanceEvent> {
        self.events.clone()
    }

    /// Sends an event and returns false if the pipeline has ended.
    pub(super) fn send(&self, event: RebalanceEvent) -> bool {
        self.events.blocking_send(event).is_ok()
    }

    pub(super) fn offsets(&self, offsets: &[(i32, i64)]) -> TopicPartitionList {
        let offsets = offsets.iter().map(|&(partition, offset)| StartOffset {
            partition,
            offset,
            leader_epoch: None,
        });
        assignment(&self.topic, &offsets.collect::<Vec<_>>())
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: Vec<i32>) {
        self.membership.joined();
        self.client.clear();
        let assignment = {
            let mut assigned = self.assigned();
            assigned.assignment += 1;
            assigned.next.clear();
            assigned.assignment
        };
        // The assignment is accepted without partitions. They are added once the start offsets are loaded from the
        // checkpoints.
        if let Err(error) = consumer.assign(&TopicPartitionList::new()) {
            tracing::error!(%error, "failed to accept the assignment");
        }
        self.send(RebalanceEvent::Assigned {
            assignment,
            partitions,
        });
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: Vec<i32>) {
        self.assigned().next.clear();
        if consumer.assignment_lost() {
            self.send(RebalanceEvent::Lost);
        } else {
            self.drain(consumer, partitions);
        }
        if let Err(error) = consumer.unassign() {
            tracing::error!(%error, "failed to release the assignment");
        }
    }

    fn drain(&self, consumer: &BaseConsumer<Self>, partitions: Vec<i32>) {
        let (drained, offsets) = sync_channel(1);
        if !self.send(RebalanceEvent::Revoked { partitions, drained }) {
            return;
        }
        match offsets.recv_timeout(self.revoke_timeout) {
            Ok(offsets) if !offsets.is_empty() => {
                // The commit only serves lag monitoring and is not awaited. The checkpoint is authoritative.
                if let Err(error) = consumer.commit(&self.offsets(&offsets), CommitMode::Async) {
                    tracing::warn!(%error, "failed to commit the offsets of revoked partitions");
                }
            }
            Ok(_) => {}
            Err(_) => tracing::warn!(
                "revoked partitions not drained within kafka.revoke_timeout: their next owner writes the remaining records again"
            ),
        }
    }
}

impl ClientContext for Rebalancer {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, properties: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.client.generate_oauth_token(properties)
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            _ if self.is_rejected(&error) => {
                // The poll loop calls this function, so a full channel must not block it.
                if self.events.try_send(RebalanceEvent::Rejected(error)).is_err() {
                    tracing::error!(reason, "kafka rejected this client");
                }
            }
            // librdkafka reconnects by itself, and `/readyz` reports the dependency.
            Some(code) if is_outage(code) || code == RDKafkaErrorCode::PartitionEOF => {
                tracing::debug!(%error, reason, "kafka client event");
            }
            // `/readyz` reports it.
            _ if self.membership.failed(reason) => {
                tracing::debug!(%error, reason, "kafka client event");
            }
            _ => self.log_error(&error, reason),
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }
}

/// Whether no broker, no leader or no coordinator is available. The health probe reports that.
fn is_outage(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    is_connection_error(code)
        || matches!(
            code,
            Code::AllBrokersDown
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::BrokerNotAvailable
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::RequestTimedOut
        )
}

impl ConsumerContext for Rebalancer {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = list
            .elements()
            .iter()
            .map(|element| element.partition())
            .collect();
        match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, partitions),
            _ => self.revoke(consumer, partitions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_end_has_its_own_leader_epoch() {
        let at = |offset, epoch| StartOffset {
            partition: 0,
            offset,
            leader_epoch: Some(epoch),
        };
        let mut next = at(10, 3);
        for written in [9, 10] {
            next.skip_to(at(written, 2));
            assert_eq!(next, at(10, 3), "no end was skipped");
        }
        next.skip_to(at(12, 4));
        assert_eq!(next, at(12, 4));
    }
}
