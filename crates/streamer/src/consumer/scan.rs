//! Reads the present records of a topic once, on its own thread. Joins no group and commits nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::thread::JoinHandle;
use std::time::Duration;

use ::kafka::ClientEvents;
use ::kafka::headers::headers;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::config::KafkaSettings;
use crate::consumer::client;
use crate::pipeline::raw_record::RawRecord;

/// A record of the topic.
#[derive(Debug)]
pub struct ScannedRecord {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Kafka's timestamp in milliseconds since 1970, or -1 if there is none.
    pub timestamp: i64,
    /// The original bytes.
    pub raw: RawRecord,
}

/// A running scan.
pub struct Scan {
    topic: String,
    chunks: mpsc::Receiver<Result<Vec<ScannedRecord>, KafkaError>>,
    thread: Option<JoinHandle<()>>,
}

impl Scan {
    /// The topic that is read.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the next records, in order within each partition, or `None` at the end.
    ///
    /// # Errors
    /// When Kafka rejects the scan. If the brokers are unreachable, the call does not return.
    pub async fn next(&mut self) -> Option<Result<Vec<ScannedRecord>, KafkaError>> {
        if let Some(chunk) = self.chunks.recv().await {
            return Some(chunk);
        }
        // A closed channel is the end of the scan only if the thread did not panic.
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Some(Err(KafkaError::Canceled)),
            _ => None,
        }
    }
}

/// Records of a chunk.
const CHUNK_RECORDS: usize = 256;
/// Chunks in the channel to the reader.
const CHUNK_CAPACITY: usize = 4;
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// Starts to read these offset ranges.
///
/// # Errors
/// When librdkafka rejects the configuration.
pub fn scan(
    settings: &KafkaSettings,
    topic: &str,
    ranges: impl IntoIterator<Item = (i32, Range<i64>)>,
) -> Result<Scan, KafkaError> {
    let connection = client::fetch_connection(settings);
    let consumer: BaseConsumer<ClientEvents> = connection
        .config()
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .create_with_context(ClientEvents::new(&connection))?;
    let mut assignment = TopicPartitionList::new();
    let mut open = BTreeMap::new();
    for (partition, range) in ranges.into_iter().filter(|(_, range)| !range.is_empty()) {
        assignment.add_partition_offset(topic, partition, Offset::Offset(range.start))?;
        open.insert(partition, range.end);
    }
    consumer.assign(&assignment)?;
    let (sender, chunks) = mpsc::channel(CHUNK_CAPACITY);
    let thread = std::thread::Builder::new()
        .name("kafka-scan".to_owned())
        .spawn(move || {
            ScanLoop {
                consumer,
                open,
                sender,
            }
            .run();
        })
        .map_err(|_| KafkaError::Canceled)?;
    Ok(Scan {
        topic: topic.to_owned(),
        chunks,
        thread: Some(thread),
    })
}

struct ScanLoop {
    consumer: BaseConsumer<ClientEvents>,
    /// The end offset of each partition that is not read to its end.
    open: BTreeMap<i32, i64>,
    sender: mpsc::Sender<Result<Vec<ScannedRecord>, KafkaError>>,
}

impl ScanLoop {
    /// Returns early once the receiver is dropped.
    fn run(mut self) {
        while !self.open.is_empty() {
            let chunk = self.chunk();
            let failed = chunk.is_err();
            if chunk.as_ref().is_ok_and(Vec::is_empty) {
                if self.sender.is_closed() {
                    return;
                }
                continue;
            }
            if self.sender.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    }

    fn chunk(&mut self) -> Result<Vec<ScannedRecord>, KafkaError> {
        let mut records = Vec::new();
        while records.len() < CHUNK_RECORDS && !self.open.is_empty() {
            match self.consumer.poll(POLL_TIMEOUT) {
                None => break,
                Some(Ok(message)) => records.extend(take_record(&mut self.open, &message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.open.remove(&partition);
                }
                Some(Err(error)) if is_fatal(self.consumer.context(), &error) => return Err(error),
                // librdkafka reconnects by itself.
                Some(Err(_)) => {}
            }
        }
        Ok(records)
    }
}

/// Returns the record, unless it is past the end of the scan.
fn take_record(open: &mut BTreeMap<i32, i64>, message: &BorrowedMessage<'_>) -> Option<ScannedRecord> {
    let (partition, offset) = (message.partition(), message.offset());
    let end = *open.get(&partition)?;
    if offset + 1 >= end {
        open.remove(&partition);
    }
    (offset < end).then(|| ScannedRecord {
        partition,
        offset,
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        raw: RawRecord::copy(message.key(), message.payload(), headers(message)),
    })
}

fn is_fatal(events: &ClientEvents, error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let missing = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
        )
    );
    missing || events.is_rejected(error) || matches!(error, KafkaError::MessageConsumptionFatal(_))
}
