//! Reads what a topic holds at one moment, once, on a thread of its own. It joins no group and commits nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::kafka::client;
use crate::raw::RawRecord;
use crate::settings::KafkaSettings;

/// A record as it lies in the topic.
#[derive(Debug)]
pub struct Scanned {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Kafka's timestamp in milliseconds since 1970; -1: none.
    pub timestamp: i64,
    /// Its bytes.
    pub raw: RawRecord,
}

/// A reading that is under way.
pub struct Scan {
    chunks: mpsc::Receiver<Result<Vec<Scanned>, KafkaError>>,
    thread: Option<JoinHandle<()>>,
}

impl Scan {
    /// The next records, those of one partition in their order; none, once everything was read.
    ///
    /// # Errors
    /// When Kafka refuses to go on. A server that is away shows as an answer that does not come.
    pub async fn next(&mut self) -> Option<Result<Vec<Scanned>, KafkaError>> {
        if let Some(chunk) = self.chunks.recv().await {
            return Some(chunk);
        }
        // The channel's end is the topic's only if the thread came to it.
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Some(Err(KafkaError::Canceled)),
            _ => None,
        }
    }
}

/// Records in a chunk.
const CHUNK: usize = 256;
/// Chunks that may wait for their reader.
const CHUNKS: usize = 4;
const POLL: Duration = Duration::from_millis(100);

/// Starts to read these offsets of these partitions.
///
/// # Errors
/// When librdkafka refuses the configuration.
pub fn scan(
    settings: &KafkaSettings,
    topic: &str,
    ranges: impl IntoIterator<Item = (i32, Range<i64>)>,
) -> Result<Scan, KafkaError> {
    let consumer: BaseConsumer = client::shared(settings)
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "5")
        .set(
            "queued.max.messages.kbytes",
            (settings.fetch_buffer.as_u64() / 1024).max(1024).to_string(),
        )
        .create()?;
    let mut assignment = TopicPartitionList::new();
    let mut open = BTreeMap::new();
    for (partition, range) in ranges.into_iter().filter(|(_, range)| !range.is_empty()) {
        assignment.add_partition_offset(topic, partition, Offset::Offset(range.start))?;
        open.insert(partition, range.end);
    }
    consumer.assign(&assignment)?;
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let thread = std::thread::Builder::new()
        .name("kafka-scan".to_owned())
        .spawn(move || {
            Thread {
                consumer,
                open,
                sender,
            }
            .run();
        })
        .map_err(|_| KafkaError::Canceled)?;
    Ok(Scan {
        chunks,
        thread: Some(thread),
    })
}

struct Thread {
    consumer: BaseConsumer,
    /// The partitions that are not read to their end, and the end.
    open: BTreeMap<i32, i64>,
    sender: mpsc::Sender<Result<Vec<Scanned>, KafkaError>>,
}

impl Thread {
    /// Ends early when nobody listens any more.
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

    fn chunk(&mut self) -> Result<Vec<Scanned>, KafkaError> {
        let mut records = Vec::new();
        while records.len() < CHUNK && !self.open.is_empty() {
            match self.consumer.poll(POLL) {
                None => break,
                Some(Ok(message)) => records.extend(take(&mut self.open, &message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.open.remove(&partition);
                }
                Some(Err(error)) if is_final(&error) => return Err(error),
                // librdkafka connects again by itself.
                Some(Err(_)) => {}
            }
        }
        Ok(records)
    }
}

/// The record, unless it lies after the end that is read to.
fn take(open: &mut BTreeMap<i32, i64>, message: &BorrowedMessage<'_>) -> Option<Scanned> {
    let (partition, offset) = (message.partition(), message.offset());
    let end = *open.get(&partition)?;
    if offset + 1 >= end {
        open.remove(&partition);
    }
    let headers = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter().map(|header| (header.key, header.value)));
    (offset < end).then(|| Scanned {
        partition,
        offset,
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        raw: RawRecord::copy(message.key(), message.payload(), headers),
    })
}

fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let gone = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
        )
    );
    gone || client::is_refused(error) || matches!(error, KafkaError::MessageConsumptionFatal(_))
}
