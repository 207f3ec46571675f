//! The channels between the consumer thread and the pipeline.

use std::sync::mpsc::Sender;

use tokio::sync::{mpsc, oneshot};

use crate::consumer::rebalance::{RebalanceEvent, StartOffset};
use crate::ledger::run_headers::RunHeaders;
use crate::pipeline::consumed_record::{Change, Irregularities};
use crate::pipeline::raw_record::RawRecord;

/// A decoded record.
#[derive(Debug)]
pub struct DecodedRecord {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The epoch of the leader that appended the record.
    pub leader_epoch: Option<i32>,
    /// Kafka's timestamp in milliseconds since 1970, or -1 if there is none.
    pub timestamp: i64,
    /// The change of the table that the record describes.
    pub change: Change,
    /// What the headers say about its run.
    pub run: RunHeaders,
    /// What is counted, although the record is written.
    pub irregularities: Irregularities,
    /// The record's original bytes.
    pub raw: RawRecord,
}

/// Records of one assignment, in the order of the log.
#[derive(Debug)]
pub struct Chunk {
    /// The assignment under which they were read.
    pub assignment: u64,
    /// The records; those of one partition are in order.
    pub records: Vec<DecodedRecord>,
}

/// A command of the pipeline to the consumer.
#[derive(Debug)]
pub enum ConsumerCommand {
    /// Read these partitions from these offsets, unless the assignment has changed.
    Start {
        /// The assignment to which the partitions belong.
        assignment: u64,
        /// Partitions and offsets.
        offsets: Vec<StartOffset>,
    },
    /// Stop reading these partitions.
    Halt(Vec<i32>),
    /// Commit these offsets to the group.
    Commit(Vec<StartOffset>),
    /// Stop reading and stay in the group.
    Pause,
    /// Leave the group and end the thread.
    Close,
}

/// The pipeline's handle of the consumer thread.
pub struct ConsumerHandle {
    /// Receives records.
    pub chunks: mpsc::Receiver<Chunk>,
    /// Receives rebalances and fatal errors.
    pub events: mpsc::Receiver<RebalanceEvent>,
    /// Sends commands.
    pub commands: Sender<ConsumerCommand>,
    /// Resolves when the thread has ended and the group is left.
    pub closed: oneshot::Receiver<()>,
}
