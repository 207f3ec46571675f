//! Backpressure: pauses all partitions while the pipeline is full, and resumes them afterwards.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use tokio::time::timeout;

use crate::consumer::channels::{Chunk, DecodedRecord};
use crate::consumer::poll_loop::PollLoop;
use crate::consumer::rebalance::StartOffset;

/// How long the pipeline may be full before the partitions are paused and polling continues without records.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

impl PollLoop {
    /// Sends records to the pipeline and returns false once the pipeline has ended. Polls on while the channel is full.
    pub(super) fn send_or_pause(&mut self, assignment: u64, records: Vec<DecodedRecord>) -> bool {
        loop {
            let chunks = self.chunks.clone();
            let reserved = self
                .runtime
                .block_on(async { timeout(SEND_TIMEOUT, chunks.reserve()).await });
            match reserved {
                Ok(Ok(permit)) => {
                    permit.send(Chunk { assignment, records });
                    self.resume();
                    return true;
                }
                Ok(Err(_)) => return false,
                Err(_) => self.poll_paused(),
            }
            // After a rebalance the records belong to the next owner.
            if self.consumer.context().assigned().assignment != assignment {
                self.resume();
                return true;
            }
        }
    }

    /// Pauses all partitions until the next [`resume`](Self::resume).
    pub(super) fn pause(&mut self) -> Result<(), KafkaError> {
        self.paused = true;
        self.consumer
            .assignment()
            .and_then(|all| self.consumer.pause(&all))
    }

    fn poll_paused(&mut self) {
        if !self.paused {
            let error = self.pause().err().map(|error| error.to_string());
            tracing::info!(error, "partitions paused: the writer is at capacity");
        }
        self.last_poll.polled();
        match self.consumer.poll(Duration::ZERO) {
            // A record that was in flight when the partitions were paused is read again after the resumption.
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                tracing::debug!(partition, offset, "record received while paused");
                drop(message);
                self.set_paused(partition, true);
                self.ends.remove(partition);
                self.rewind(StartOffset {
                    partition,
                    offset,
                    leader_epoch: None,
                });
            }
            // An end is verified beside a backlog of other partitions, too.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.set_paused(partition, true);
                self.reached_end(partition);
            }
            None => {}
            Some(Err(error)) => self.handle_error(error),
        }
        self.verify_ends();
    }

    /// Pauses or resumes one partition.
    pub(super) fn set_paused(&self, partition: i32, paused: bool) {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.topic, partition);
        let set = if paused {
            self.consumer.pause(&list)
        } else {
            self.consumer.resume(&list)
        };
        if let Err(error) = set {
            tracing::debug!(%error, partition, paused, "failed to pause or resume a partition");
        }
    }

    fn resume(&mut self) {
        if !self.paused {
            return;
        }
        self.paused = false;
        let resumed = self.consumer.assignment().and_then(|all| {
            let mut list = TopicPartitionList::new();
            for element in all.elements() {
                if !self.halted.contains(&element.partition()) {
                    list.add_partition(element.topic(), element.partition());
                }
            }
            self.consumer.resume(&list)
        });
        let error = resumed.err().map(|error| error.to_string());
        tracing::info!(error, "partitions resumed");
    }
}
