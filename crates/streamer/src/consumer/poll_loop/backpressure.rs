//! Backpressure: while the pipeline is full, no records are taken. They wait in the partitions' queues, which are bounded.
//!
//! No partition is paused for it. A pause discards what is fetched, and after each the first response would fill the pipeline
//! again, so that partitions starve beside a slow writer. A partition's errors wait behind its records.

use std::mem;
use std::time::Duration;

use ::kafka::fetch_queue::fetched_records;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use tokio::time::timeout;

use crate::consumer::channels::{Chunk, DecodedRecord};
use crate::consumer::poll_loop::PollLoop;

/// How long the pipeline may be full before polling continues without records.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

impl PollLoop {
    /// Sends records to the pipeline and returns false once the pipeline has ended. Polls on while the channel is full.
    pub(super) fn send(&mut self, assignment: u64, mut records: Vec<DecodedRecord>) -> bool {
        let mut waited = false;
        loop {
            let chunks = self.chunks.clone();
            let reserved = self
                .runtime
                .block_on(async { timeout(SEND_TIMEOUT, chunks.reserve()).await });
            match reserved {
                Ok(Ok(permit)) => {
                    permit.send(Chunk { assignment, records });
                    break;
                }
                Ok(Err(_)) => return false,
                Err(_) => {
                    waited = true;
                    if !mem::replace(&mut self.is_full, true) {
                        tracing::info!("reading paused: the writer is at capacity");
                    }
                    self.poll_full(&mut records);
                }
            }
            // After a rebalance the records belong to the next owner.
            if self.consumer.context().assigned().assignment != assignment {
                break;
            }
        }
        // Once for a backlog, and not for each chunk of it.
        if !waited && mem::replace(&mut self.is_full, false) {
            tracing::info!("reading resumed");
        }
        true
    }

    /// Serves rebalances and the partitions at their end. Their ends are verified beside a backlog of other partitions, too,
    /// and the first record that arrives there is added to `records`.
    fn poll_full(&mut self, records: &mut Vec<DecodedRecord>) {
        self.last_poll.polled();
        self.serve_events(records);
        let queues = mem::take(&mut self.queues);
        for (partition, queue) in queues.iter() {
            while self.ends.contains(*partition)
                && let Some(polled) = queue.poll(Duration::ZERO)
            {
                self.receive(polled, records);
            }
        }
        self.queues = queues;
        let client = self.consumer.client();
        self.turns
            .filled(|partition| fetched_records(client, &self.topic, partition));
        self.take_turns();
        self.verify_ends();
    }

    /// Pauses all partitions for good.
    pub(super) fn pause(&mut self) -> Result<(), KafkaError> {
        self.paused = true;
        self.consumer
            .assignment()
            .and_then(|all| self.consumer.pause(&all))
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
}
