//! The error of the pipeline.

use rdkafka::error::KafkaError;
use thiserror::Error;

use crate::cassandra::session_pool::SessionError;
use crate::checkpoint::start_offset_resolver::ResolveError;
use crate::pipeline::batch_writer::BatchWriteError;
use ::kafka::ClientRejected;

/// Why the pipeline failed.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// Records can't be written.
    #[error(transparent)]
    Write(#[from] BatchWriteError),
    /// A partition can't be started.
    #[error(transparent)]
    Assign(#[from] ResolveError),
    /// Checkpoints can't be written.
    #[error("cassandra rejected the checkpoints: {0}")]
    Checkpoint(String),
    /// No session can be built.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Kafka rejects the client.
    #[error(transparent)]
    Rejected(#[from] ClientRejected),
    /// The consumer has failed for good. A new process can continue.
    #[error("the kafka consumer failed for good")]
    Consumer(#[source] KafkaError),
    /// The log changed under the consumer: restart from the checkpoints.
    #[error("the log changed under the consumer")]
    Restart(#[source] KafkaError),
    /// The consumer thread has ended.
    #[error("the kafka consumer thread ended")]
    ConsumerEnded,
}
