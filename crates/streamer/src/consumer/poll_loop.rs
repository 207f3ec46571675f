//! The poll loop of the consumer, on its own thread.
//!
//! It polls regardless of the rest of the process, so that the member stays in the group, and pauses its partitions while
//! the pipeline is full. It commits and starts only at the offsets that the pipeline sends.

mod backpressure;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ::kafka::RebootstrapMonitor;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::config::KafkaSettings;
use crate::consumer::channels::{Chunk, ConsumerCommand, ConsumerHandle, DecodedRecord};
use crate::consumer::client;
use crate::consumer::eof_tracker::{EofTracker, NextStep};
use crate::consumer::group_membership::GroupMembership;
use crate::consumer::last_poll::LastPoll;
use crate::consumer::rebalance::{RebalanceEvent, Rebalancer};
use crate::pipeline::consumed_record::{ConsumedRecord, Decoder};
use crate::pipeline::raw_record::RawRecord;

/// Records of a chunk.
const CHUNK_RECORDS: usize = 256;
/// Chunks in the channel to the pipeline.
const CHUNK_CAPACITY: usize = 4;
/// Events in the channel to the pipeline; a rebalance sends two.
const EVENT_CAPACITY: usize = 16;
/// The timeout of a poll, and so the latency of a command.
const POLL_TIMEOUT: Duration = Duration::from_millis(20);
/// How long no record may arrive before the poll loop requests metadata: less than `rebootstrap`'s timeout.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of that request, during which nothing is polled.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// The timeout of a watermark request for the end of a partition.
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct PollLoop {
    consumer: BaseConsumer<Rebalancer>,
    decoder: Decoder,
    partitions: Arc<AtomicI32>,
    topic: String,
    chunks: mpsc::Sender<Chunk>,
    commands: Receiver<ConsumerCommand>,
    last_poll: Arc<LastPoll>,
    runtime: Handle,
    ends: EofTracker,
    rebootstrap: RebootstrapMonitor,
    /// When the last record or metadata response arrived.
    last_response: Instant,
    /// Assigned partitions that are not read any more.
    halted: BTreeSet<i32>,
    paused: bool,
}

/// Starts the consumer thread.
///
/// # Errors
/// When librdkafka rejects the configuration.
pub fn spawn(
    settings: &KafkaSettings,
    decoder: Decoder,
    partitions: Arc<AtomicI32>,
    last_poll: Arc<LastPoll>,
    membership: Arc<GroupMembership>,
) -> Result<ConsumerHandle, KafkaError> {
    let (chunk_sender, chunks) = mpsc::channel(CHUNK_CAPACITY);
    let (event_sender, events) = mpsc::channel(EVENT_CAPACITY);
    let (commands, command_receiver) = channel();
    let (closed_sender, closed) = oneshot::channel();
    last_poll.polled();
    let rebalancer = Rebalancer::new(
        settings.topic().to_owned(),
        event_sender,
        settings.revoke_timeout,
        membership,
    );
    let consumer: BaseConsumer<Rebalancer> = config(settings).create_with_context(rebalancer)?;
    consumer.subscribe(&[settings.topic()])?;
    let poll_loop = PollLoop {
        consumer,
        decoder,
        partitions,
        topic: settings.topic().to_owned(),
        chunks: chunk_sender,
        commands: command_receiver,
        last_poll,
        runtime: Handle::current(),
        ends: EofTracker::default(),
        rebootstrap: RebootstrapMonitor::new(&settings.brokers.join(",")),
        last_response: Instant::now(),
        halted: BTreeSet::new(),
        paused: false,
    };
    std::thread::Builder::new()
        .name("kafka-consumer".to_owned())
        .spawn(move || {
            let last_poll = Arc::clone(&poll_loop.last_poll);
            poll_loop.run();
            last_poll.ended();
            // The pipeline may have stopped waiting.
            let _ = closed_sender.send(());
        })
        .map_err(|_| KafkaError::Canceled)?;
    Ok(ConsumerHandle {
        chunks,
        events,
        commands,
        closed,
    })
}

fn config(settings: &KafkaSettings) -> rdkafka::ClientConfig {
    let mut config = client::config(settings);
    let session = settings.session_timeout.as_millis();
    config
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", session.to_string())
        .set("heartbeat.interval.ms", (session / 4).max(1).to_string())
        .set("allow.auto.create.topics", "false")
        // librdkafka's default of one second stalls a consumer with a small buffer.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.wait.max.ms", "100")
        .set(
            "fetch.message.max.bytes",
            (settings.fetch_buffer.as_u64() / 4).max(65_536).to_string(),
        )
        .set(
            "queued.max.messages.kbytes",
            (settings.fetch_buffer.as_u64() / 1024).max(1024).to_string(),
        );
    if let Some(id) = &settings.instance_id {
        config.set("group.instance.id", id);
    }
    config
}

impl PollLoop {
    fn run(mut self) {
        loop {
            while let Ok(command) = self.commands.try_recv() {
                if matches!(command, ConsumerCommand::Close) {
                    return;
                }
                self.handle_command(command);
            }
            // A pipeline that was dropped without a command must not keep its partitions from the next one.
            if self.chunks.is_closed() {
                return;
            }
            self.last_poll.polled();
            let records = self.read();
            if !records.is_empty() && !self.send_or_pause(records) {
                return;
            }
            self.verify_ends();
            self.request_metadata_if_idle();
        }
    }

    /// A consumer without records is either at the end of all partitions, or has lost all its brokers for good.
    fn request_metadata_if_idle(&mut self) {
        if self.last_response.elapsed() < IDLE_TIMEOUT {
            return;
        }
        let client = self.consumer.client();
        let response = client.fetch_metadata(Some(&self.topic), METADATA_TIMEOUT);
        self.rebootstrap.observe(client, &response);
        self.last_response = Instant::now();
    }

    fn handle_command(&mut self, command: ConsumerCommand) {
        let result = match command {
            ConsumerCommand::Start { assignment, offsets } => self.start(assignment, &offsets),
            ConsumerCommand::Commit(offsets) => self
                .consumer
                .commit(&self.consumer.context().offsets(&offsets), CommitMode::Async),
            ConsumerCommand::Halt(partitions) => self.halt(&partitions),
            ConsumerCommand::Pause => self.pause(),
            ConsumerCommand::Close => Ok(()),
        };
        if let Err(error) = result {
            tracing::warn!(%error, "failed to execute a command of the kafka consumer");
        }
    }

    fn start(&mut self, assignment: u64, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        {
            let mut assigned = self.consumer.context().assigned();
            if assigned.assignment != assignment {
                return Ok(());
            }
            assigned.next = offsets.iter().copied().collect();
        }
        self.ends.clear();
        self.halted.clear();
        let offsets = self.consumer.context().offsets(offsets);
        if !self.paused {
            // A partition that was paused when it was revoked is still paused when it is assigned again.
            self.consumer.resume(&offsets)?;
        }
        self.consumer.assign(&offsets)
    }

    fn halt(&mut self, partitions: &[i32]) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            self.halted.insert(*partition);
            self.ends.remove(*partition);
            list.add_partition(&self.topic, *partition);
        }
        self.consumer.pause(&list)
    }

    /// Waits for the first record up to the poll timeout, then takes the records that are already fetched.
    fn read(&mut self) -> Vec<DecodedRecord> {
        self.decoder.partitions = self.partitions.load(Ordering::Relaxed);
        let mut records = Vec::new();
        let mut timeout = POLL_TIMEOUT;
        while records.len() < CHUNK_RECORDS {
            let Some(polled) = self.consumer.poll(timeout) else {
                break;
            };
            timeout = Duration::ZERO;
            match polled {
                Ok(message) => {
                    self.last_response = Instant::now();
                    let record = decode(&self.decoder, &message);
                    self.ends.remove(record.partition);
                    self.consumer
                        .context()
                        .assigned()
                        .next
                        .insert(record.partition, record.offset + 1);
                    records.push(record);
                }
                Err(KafkaError::PartitionEOF(partition)) => self.reached_end(partition),
                Err(error) => self.handle_error(error),
            }
        }
        records
    }

    fn handle_error(&self, error: KafkaError) {
        use RDKafkaErrorCode as Code;
        let context = self.consumer.context();
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        match error.rdkafka_error_code() {
            Some(
                Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic,
            ) => {
                context.send(RebalanceEvent::Restart(error));
            }
            Some(code) if ::kafka::is_rejection(code) => {
                context.send(RebalanceEvent::Rejected(error));
            }
            _ if fatal => {
                context.send(RebalanceEvent::Fatal(error));
            }
            // The context has logged it, unless it is an outage.
            _ => tracing::debug!(%error, "kafka consumer error"),
        }
    }

    fn rewind(&self, partition: i32, offset: i64) {
        let seek = self.consumer.seek(
            &self.topic,
            partition,
            rdkafka::Offset::Offset(offset),
            Duration::from_secs(5),
        );
        if let Err(error) = seek {
            self.consumer.context().send(RebalanceEvent::Restart(error));
        }
    }

    fn reached_end(&mut self, partition: i32) {
        if self.halted.contains(&partition) {
            return;
        }
        let Some(next_offset) = self.ends.reached(partition, Instant::now()) else {
            return;
        };
        let mut assigned = self.consumer.context().assigned();
        assigned.next.insert(partition, next_offset);
        let assignment = assigned.assignment;
        drop(assigned);
        // If the channel is full, the end is verified again later.
        let _ = self.chunks.try_send(Chunk::Eof {
            assignment,
            partition,
            next_offset,
        });
    }

    /// For partitions that are idle at their end: requests the end of the log, and reads again if it is further.
    fn verify_ends(&mut self) {
        let next = |partition: i32| self.consumer.context().assigned().next.get(&partition).copied();
        match self.ends.next_step(Instant::now()) {
            None => {}
            Some(NextStep::RequestEnd(partition)) => {
                let end = self
                    .consumer
                    .fetch_watermarks(&self.topic, partition, WATERMARK_TIMEOUT);
                match (next(partition), end) {
                    (Some(next), Ok((_, end))) if end > next => {
                        self.ends.further(partition, Instant::now(), end);
                    }
                    _ => self.ends.idle(partition, Instant::now()),
                }
            }
            Some(NextStep::ReadAgain(partition)) => match next(partition) {
                Some(next) => {
                    self.rewind(partition, next);
                    self.ends.reading(partition);
                }
                None => self.ends.idle(partition, Instant::now()),
            },
        }
    }
}

fn decode(decoder: &Decoder, message: &BorrowedMessage<'_>) -> DecodedRecord {
    let headers = || {
        message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter().map(|header| (header.key, header.value)))
    };
    let record = ConsumedRecord {
        partition: message.partition(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key(),
        value: message.payload(),
    };
    let (change, irregularities) = decoder.decode(&record, headers());
    DecodedRecord {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: record.timestamp,
        change,
        irregularities,
        raw: RawRecord::copy(message.key(), message.payload(), headers()),
    }
}
