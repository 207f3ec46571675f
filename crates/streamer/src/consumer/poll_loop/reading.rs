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
        let mut records = Vec::new();
        self.serve_events(&mut records);
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
        self.take_turns();
        if records.is_empty() {
            thread::park_timeout(POLL_TIMEOUT);
        }
        records
    }

    /// Serves the consumer's own queue, which has rebalances and errors.
    pub(super) fn serve_events(&mut self, records: &mut Vec<DecodedRecord>) {
        self.decoder.partitions = self.partitions.load(Ordering::Relaxed);
        let consumer = Arc::clone(&self.consumer);
        while let Some(polled) = consumer.poll(Duration::ZERO) {
            self.receive(polled, records);
        }
    }

    /// Pauses and resumes partitions while many have a backlog.
    pub(super) fn take_turns(&mut self) {
        if self.paused {
            return;
        }
        let client = self.consumer.client();
        let fetched = |partition| fetched_records(client, &self.topic, partition);
        let Changes { pause, resume } = self.turns.changes(fetched, Instant::now());
        self.set_paused(pause, true);
        self.set_paused(resume, false);
    }

    pub(super) fn receive(
        &mut self,
        polled: Result<BorrowedMessage<'_>, KafkaError>,
        records: &mut Vec<DecodedRecord>,
    ) {
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

#[cfg(test)]
mod tests {
    use model::headers::kafka::{ACCEPTED_AT_US, FETCHED_AT_US, RUN_ID, RUN_SEQ, SCHEMA_HASH};
    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::message::OwnedHeaders;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use rdkafka::{ClientConfig, Offset, TopicPartitionList};
    use uuid::Uuid;

    use super::*;
    use crate::config::Tombstones;
    use crate::pipeline::row::TableShape;
    use crate::pipeline::row::tests::{order, orders};

    const TOPIC: &str = "records";
    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Key, value and headers.
    type Parts = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..24)
    }

    fn any_header() -> impl Strategy<Value = (Vec<u8>, Option<Vec<u8>>)> {
        let known = prop::sample::select(vec![ACCEPTED_AT_US, FETCHED_AT_US, RUN_ID, RUN_SEQ, SCHEMA_HASH]);
        let names = prop_oneof![
            4 => bytes(),
            4 => known.prop_map(|name| name.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 1_000..4_000),
        ];
        let values = prop_oneof![
            bytes(),
            any::<i64>().prop_map(|number| number.to_string().into_bytes())
        ];
        (names, prop::option::of(values))
    }

    fn any_record() -> impl Strategy<Value = Parts> {
        let key = prop::option::of(prop_oneof![bytes(), Just(b"9".to_vec())]);
        let value = prop::option::of(prop_oneof![bytes(), Just(order(9, "hi"))]);
        (key, value, prop::collection::vec(any_header(), 0..6))
    }

    fn send(producer: &BaseProducer, (key, value, headers): &Parts) {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(TOPIC).partition(0);
        record.key = key.as_deref();
        record.payload = value.as_deref();
        if !headers.is_empty() {
            let all = headers.iter().fold(OwnedHeaders::new(), |all, (name, value)| {
                ::kafka::headers::insert(all, (name.as_slice(), value.as_deref()))
            });
            record.headers = Some(all);
        }
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }

    /// librdkafka reads the records from a broker of its own, so that each part of them passes through its memory.
    #[test]
    fn fetched_record_of_any_bytes_is_decoded() {
        let seed = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        println!("seed {seed:?}");
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let records = any_record();
        let records: Vec<_> = (0..2_000)
            .map(|_| records.new_tree(&mut runner).unwrap().current())
            .collect();
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 1, 1).unwrap();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("group.id", TOPIC)
            .set("fetch.wait.max.ms", "10");
        let producer: BaseProducer = config.create().unwrap();
        for record in &records {
            send(&producer, record);
        }
        producer.flush(TIMEOUT).unwrap();

        let consumer: BaseConsumer = config.create().unwrap();
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(TOPIC, 0, Offset::Beginning)
            .unwrap();
        consumer.assign(&assignment).unwrap();
        let decoder = Decoder {
            contract: orders(),
            shape: TableShape::default(),
            tombstones: Tombstones::Delete,
            partitions: 1,
        };
        let until = Instant::now() + TIMEOUT;
        for (offset, (key, value, headers)) in (0..).zip(&records) {
            let message = loop {
                match consumer.poll(Duration::from_millis(100)) {
                    Some(Ok(message)) => break message,
                    other => assert!(Instant::now() < until, "offset {offset}: {other:?}"),
                }
            };
            let DecodedRecord {
                offset: read, raw, ..
            } = decode(&decoder, &message);
            assert_eq!(read, offset);
            assert_eq!(
                (raw.key(), raw.value()),
                (key.as_deref(), value.as_deref()),
                "offset {offset}"
            );
            // librdkafka ends a name with a zero byte.
            let expected = headers.iter().map(|(name, value)| {
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                (name, value.as_deref())
            });
            assert!(raw.headers().eq(expected), "offset {offset}: {headers:?}");
        }
    }
}
