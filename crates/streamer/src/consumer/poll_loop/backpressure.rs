//! Backpressure: pauses all partitions while the pipeline is full, and resumes them afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{iter, mem};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use tokio::time::timeout;

use crate::consumer::channels::{Chunk, DecodedRecord};
use crate::consumer::poll_loop::PollLoop;

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
        let consumer = Arc::clone(&self.consumer);
        let queues = mem::take(&mut self.queues);
        let events = iter::once(consumer.poll(Duration::ZERO));
        for polled in events
            .chain(queues.iter().map(|queue| queue.poll(Duration::ZERO)))
            .flatten()
        {
            self.receive_paused(polled);
        }
        self.queues = queues;
        self.verify_ends();
    }

    fn receive_paused(&mut self, polled: Result<BorrowedMessage<'_>, KafkaError>) {
        match polled {
            // A record that was in flight when the partitions were paused is read again after the resumption, from the
            // position whose leader epoch is known. A revoked partition has none, and its next owner reads the record.
            Ok(message) => {
                let (partition, offset) = (message.partition(), message.offset());
                tracing::debug!(partition, offset, "record received while paused");
                drop(message);
                self.set_paused([partition], true);
                self.ends.remove(partition);
                if let Some(next) = self.next(partition) {
                    self.rewind(next);
                }
            }
            // An end is verified beside a backlog of other partitions, too.
            Err(KafkaError::PartitionEOF(partition)) => {
                self.set_paused([partition], true);
                self.reached_end(partition);
            }
            Err(error) => self.handle_error(error),
        }
    }

    /// Pauses or resumes some partitions.
    pub(super) fn set_paused(&self, partitions: impl IntoIterator<Item = i32>, paused: bool) {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        if list.count() == 0 {
            return;
        }
        let set = if paused {
            self.consumer.pause(&list)
        } else {
            self.consumer.resume(&list)
        };
        if let Err(error) = set {
            tracing::debug!(%error, ?list, paused, "failed to pause or resume partitions");
        }
    }

    fn resume(&mut self) {
        if !self.paused {
            return;
        }
        self.paused = false;
        self.turns.resumed(Instant::now());
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
