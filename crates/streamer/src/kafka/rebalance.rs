//! What a change of the assignment does: a new partition is read only once its checkpoint is known, a revoked one is
//! given back only once what is being written is durable, or the deadline is over.
//!
//! Runs on the consumer's thread, inside its poll.

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::kafka::client;

/// What the consumer tells the pipeline besides records.
#[derive(Debug)]
pub enum Notice {
    /// These partitions are ours; nothing is read before [`Command::Start`](super::source::Command::Start).
    Assigned {
        /// Counts the assignments of this process.
        assignment: u64,
        /// All of them.
        partitions: Vec<i32>,
    },
    /// These are no longer ours.
    Revoked {
        /// Which.
        partitions: Vec<i32>,
        /// Takes the durable offsets once everything of theirs is durable; nobody listens after the deadline.
        drained: SyncSender<Vec<(i32, i64)>>,
    },
    /// They were taken away: another member may be writing already.
    Lost,
    /// The log is not where it was thought to be: start anew from the checkpoints.
    Restart(KafkaError),
    /// Only the operator can mend it.
    Refused(KafkaError),
    /// The consumer is beyond repair.
    Broken(KafkaError),
}

/// The rebalance callback and what it shares with the poll loop.
pub struct Rebalancer {
    topic: String,
    notices: mpsc::Sender<Notice>,
    revoke_timeout: Duration,
    assigned: Mutex<Assigned>,
}

/// The assignment of the moment.
#[derive(Debug, Default)]
pub struct Assigned {
    /// Counts up with each assignment.
    pub assignment: u64,
    /// The next offset of each partition that is read; empty until the start is known.
    pub next: BTreeMap<i32, i64>,
}

impl Rebalancer {
    pub(super) fn new(topic: String, notices: mpsc::Sender<Notice>, revoke_timeout: Duration) -> Self {
        Self {
            topic,
            notices,
            revoke_timeout,
            assigned: Mutex::default(),
        }
    }

    pub(super) fn assigned(&self) -> MutexGuard<'_, Assigned> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pipeline that is gone needs no notices.
    pub(super) fn notify(&self, notice: Notice) -> bool {
        self.notices.blocking_send(notice).is_ok()
    }

    pub(super) fn offsets(&self, offsets: &[(i32, i64)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))
                .expect("an offset is not negative");
        }
        list
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: Vec<i32>) {
        let assignment = {
            let mut assigned = self.assigned();
            assigned.assignment += 1;
            assigned.next.clear();
            assigned.assignment
        };
        // The assignment is taken, and read later: the start offsets come from the checkpoints.
        if let Err(error) = consumer.assign(&TopicPartitionList::new()) {
            tracing::error!(%error, "assignment not taken");
        }
        self.notify(Notice::Assigned {
            assignment,
            partitions,
        });
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: Vec<i32>) {
        self.assigned().next.clear();
        if consumer.assignment_lost() {
            self.notify(Notice::Lost);
        } else {
            self.drain(consumer, partitions);
        }
        if let Err(error) = consumer.unassign() {
            tracing::error!(%error, "assignment not given back");
        }
    }

    fn drain(&self, consumer: &BaseConsumer<Self>, partitions: Vec<i32>) {
        let (drained, offsets) = sync_channel(1);
        if !self.notify(Notice::Revoked { partitions, drained }) {
            return;
        }
        match offsets.recv_timeout(self.revoke_timeout) {
            Ok(offsets) if !offsets.is_empty() => {
                // Only for lag tools, so nobody waits for it; the truth is the checkpoint.
                if let Err(error) = consumer.commit(&self.offsets(&offsets), CommitMode::Async) {
                    tracing::warn!(%error, "offsets not committed on revocation");
                }
            }
            Ok(_) => {}
            Err(_) => tracing::warn!(
                "revoked partitions not drained in time; their next owner writes the rest again"
            ),
        }
    }
}

impl ClientContext for Rebalancer {
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(code) if client::is_refusal(code) => {
                // Called from the poll loop: a full channel must not stop it.
                if self.notices.try_send(Notice::Refused(error)).is_err() {
                    tracing::error!(reason, "kafka refuses this client");
                }
            }
            // librdkafka connects again by itself, and `/readyz` tells of it.
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::PartitionEOF,
            ) => {
                tracing::debug!(%error, reason, "kafka client event");
            }
            _ => tracing::warn!(%error, reason, "kafka client error"),
        }
    }
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
