//! A queue of fetched records for each partition, served in turn.

use std::collections::VecDeque;
use std::sync::Arc;

use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::base_consumer::PartitionQueue;

use crate::consumer::rebalance::{Rebalancer, StartOffset};

/// The queues of the partitions that are read, the next one first.
#[derive(Default)]
pub(super) struct PartitionQueues(VecDeque<(i32, PartitionQueue<Rebalancer>)>);

impl PartitionQueues {
    /// Gives each partition a queue, which unparks this thread when a record arrives. It is called before the partitions are
    /// assigned, so that their records do not go to the consumer's queue.
    pub(super) fn split(
        &mut self,
        consumer: &Arc<BaseConsumer<Rebalancer>>,
        topic: &str,
        starts: &[StartOffset],
    ) {
        for StartOffset { partition, .. } in starts {
            if self.0.iter().any(|(existing, _)| existing == partition) {
                continue;
            }
            if let Some(mut queue) = consumer.split_partition_queue(topic, *partition) {
                let thread = std::thread::current();
                queue.set_nonempty_callback(move || thread.unpark());
                self.0.push_back((*partition, queue));
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(i32, PartitionQueue<Rebalancer>)> {
        self.0.iter()
    }

    /// Returns the next queue and makes it the last one.
    pub(super) fn next(&mut self) -> Option<&(i32, PartitionQueue<Rebalancer>)> {
        let next = self.0.pop_front()?;
        self.0.push_back(next);
        self.0.back()
    }
}
