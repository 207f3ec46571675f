//! Takes fetched records.
//!
//! Each partition has a queue of its own, and records are taken in turn. With one queue for all, partitions whose records fill
//! it keep the others from being fetched.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{mem, thread};

use ::kafka::fetch_queue::fetched_records;
use ::kafka::headers::headers;
use ::kafka::leader_epoch;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};

use crate::consumer::channels::DecodedRecord;
use crate::consumer::poll_loop::{POLL_TIMEOUT, PollLoop};
use crate::consumer::rebalance::StartOffset;
use crate::consumer::turns::Changes;
use crate::ledger::run_headers::RunHeaders;
use crate::pipeline::consumed_record::{ConsumedRecord, Decoder};
use crate::pipeline::raw_record::RawRecord;

impl PollLoop {
    /// Serves rebalances, then takes the records that are already fetched, or waits for some up to the poll timeout.
    pub(super) fn read(&mut self) -> Vec<DecodedRecord> {
        self.decoder.partitions = self.partitions.load(Ordering::Relaxed);
        let mut records = Vec::new();
        let consumer = Arc::clone(&self.consumer);
        while let Some(polled) = consumer.poll(Duration::ZERO) {
            self.receive(polled, &mut records);
        }
        let mut queues = mem::take(&mut self.queues);
        let quantum = (self.chunk_records / queues.len().max(1)).max(1);
        let mut empty = 0;
        while records.len() < self.chunk_records
            && empty < queues.len()
            && let Some((partition, queue)) = queues.next()
        {
            let before = records.len();
            let full = (before + quantum).min(self.chunk_records);
            while records.len() < full
                && let Some(polled) = queue.poll(Duration::ZERO)
            {
                self.receive(polled, &mut records);
            }
            self.turns
                .read(*partition, mean_size(&records[before..]), Instant::now());
            empty = if records.len() < full { empty + 1 } else { 0 };
        }
        self.queues = queues;
        if !self.paused {
            let fetched = |partition| fetched_records(consumer.client(), &self.topic, partition);
            let Changes { pause, resume } = self.turns.changes(fetched, Instant::now());
            self.set_paused(pause, true);
            self.set_paused(resume, false);
        }
        if records.is_empty() {
            thread::park_timeout(POLL_TIMEOUT);
        }
        records
    }

    fn receive(&mut self, polled: Result<BorrowedMessage<'_>, KafkaError>, records: &mut Vec<DecodedRecord>) {
        match polled {
            Ok(message) => {
                self.last_response = Instant::now();
                let record = decode(&self.decoder, &message);
                self.ends.remove(record.partition);
                self.consumer.context().assigned().next.insert(
                    record.partition,
                    StartOffset {
                        partition: record.partition,
                        offset: record.offset + 1,
                        leader_epoch: record.leader_epoch,
                    },
                );
                records.push(record);
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                self.turns.ended(partition);
                self.reached_end(partition);
            }
            Err(error) => self.handle_error(error),
        }
    }
}

/// The mean size of the records, if there are any.
fn mean_size(records: &[DecodedRecord]) -> Option<usize> {
    let bytes: usize = records.iter().map(|record| record.raw.len()).sum();
    bytes.checked_div(records.len())
}

fn decode(decoder: &Decoder, message: &BorrowedMessage<'_>) -> DecodedRecord {
    let record = ConsumedRecord {
        partition: message.partition(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key(),
        value: message.payload(),
    };
    // Copied first: librdkafka's headers are looked up one by one.
    let raw = RawRecord::copy(message.key(), message.payload(), headers(message));
    let (change, irregularities) = decoder.decode(&record, raw.headers());
    DecodedRecord {
        partition: message.partition(),
        offset: message.offset(),
        leader_epoch: leader_epoch::of(message),
        timestamp: record.timestamp,
        change,
        irregularities,
        run: RunHeaders::read(raw.headers(), record.timestamp),
        raw,
    }
}
