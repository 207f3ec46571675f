//! Reads the present records of a topic once, on its own thread. Joins no group and commits nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::thread::JoinHandle;
use std::time::Duration;

use ::kafka::ClientEvents;
use ::kafka::headers::headers;
use bytesize::ByteSize;
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

impl ScannedRecord {
    /// Copies a record.
    pub fn copy(message: &BorrowedMessage<'_>) -> Self {
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            raw: RawRecord::copy(message.key(), message.payload(), headers(message)),
        }
    }
}

/// A running scan, which returns a `T` for each record that is taken.
pub struct Scan<T = ScannedRecord> {
    topic: String,
    chunks: mpsc::Receiver<Result<Vec<T>, KafkaError>>,
    thread: Option<JoinHandle<()>>,
}

impl<T> Scan<T> {
    /// The topic that is read.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns what is taken of the next records, in order within each partition, or `None` at the end. It may be empty.
    ///
    /// # Errors
    /// When Kafka rejects the scan. If the brokers are unreachable, the call does not return.
    pub async fn next(&mut self) -> Option<Result<Vec<T>, KafkaError>> {
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
/// The least memory of the fetch buffer. With the service's own, a response has so few records of one partition that the
/// scan waits for responses most of the time.
const MIN_FETCH_BUFFER: ByteSize = ByteSize::mib(16);

/// Starts to read these offset ranges.
///
/// # Errors
/// When librdkafka rejects the configuration.
pub fn scan(
    settings: &KafkaSettings,
    topic: &str,
    ranges: impl IntoIterator<Item = (i32, Range<i64>)>,
) -> Result<Scan, KafkaError> {
    scan_with(settings, topic, ranges, |message| {
        Some(ScannedRecord::copy(message))
    })
}

/// Starts to read these offset ranges, and copies only what `take` returns. It is called for each record on the thread of
/// the scan.
///
/// # Errors
/// When librdkafka rejects the configuration.
pub fn scan_with<T: Send + 'static>(
    settings: &KafkaSettings,
    topic: &str,
    ranges: impl IntoIterator<Item = (i32, Range<i64>)>,
    take: impl FnMut(&BorrowedMessage<'_>) -> Option<T> + Send + 'static,
) -> Result<Scan<T>, KafkaError> {
    let fetch_buffer = settings.fetch_buffer.max(MIN_FETCH_BUFFER);
    let settings = &KafkaSettings {
        fetch_buffer,
        ..settings.clone()
    };
    let connection = client::fetch_connection(settings, 1);
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
                take,
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

struct ScanLoop<T, F> {
    consumer: BaseConsumer<ClientEvents>,
    /// The end offset of each partition that is not read to its end.
    open: BTreeMap<i32, i64>,
    take: F,
    sender: mpsc::Sender<Result<Vec<T>, KafkaError>>,
}

impl<T, F: FnMut(&BorrowedMessage<'_>) -> Option<T>> ScanLoop<T, F> {
    /// Returns early once the receiver is dropped.
    fn run(mut self) {
        while !self.open.is_empty() {
            let chunk = match self.chunk() {
                Ok((0, _)) if self.sender.is_closed() => return,
                Ok((0, _)) => continue,
                // A chunk of which nothing is taken reports progress.
                Ok((_, taken)) => Ok(taken),
                Err(error) => Err(error),
            };
            let failed = chunk.is_err();
            if self.sender.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    }

    /// Returns the number of records, and what is taken of them.
    fn chunk(&mut self) -> Result<(usize, Vec<T>), KafkaError> {
        let (mut records, mut taken) = (0, Vec::new());
        while records < CHUNK_RECORDS && !self.open.is_empty() {
            match self.consumer.poll(POLL_TIMEOUT) {
                None => break,
                Some(Ok(message)) => {
                    if is_in_range(&mut self.open, &message) {
                        records += 1;
                        taken.extend((self.take)(&message));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.open.remove(&partition);
                }
                Some(Err(error)) if is_fatal(self.consumer.context(), &error) => return Err(error),
                // librdkafka reconnects by itself.
                Some(Err(_)) => {}
            }
        }
        Ok((records, taken))
    }
}

/// Whether the record is before the end of the scan. Closes its partition if no other one follows.
fn is_in_range(open: &mut BTreeMap<i32, i64>, message: &BorrowedMessage<'_>) -> bool {
    let (partition, offset) = (message.partition(), message.offset());
    let Some(end) = open.get(&partition).copied() else {
        return false;
    };
    if offset + 1 >= end {
        open.remove(&partition);
    }
    offset < end
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
