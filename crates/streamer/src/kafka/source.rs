//! The consumer, on a thread of its own: it polls whatever the rest of the process is doing, so that the group keeps
//! counting on it, and reads nothing while the pipeline has no room.
//!
//! It commits only offsets that it is told to, and starts partitions only where it is told to.

mod ends;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rebootstrap::Answers;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::kafka::client;
use crate::kafka::last_poll::LastPoll;
use crate::kafka::rebalance::{Notice, Rebalancer};
use crate::kafka::source::ends::{Due, Ends};
use crate::raw::RawRecord;
use crate::record::{Change, Decoder, Incoming, Misplaced};
use crate::settings::KafkaSettings;

/// A record, read.
#[derive(Debug)]
pub struct Record {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Kafka's timestamp in milliseconds since 1970; -1: none.
    pub timestamp: i64,
    /// What it asks for.
    pub change: Change,
    /// What is to be counted about it.
    pub misplaced: Misplaced,
    /// Its own bytes.
    pub raw: RawRecord,
}

/// What the consumer hands on, in the order of the log.
#[derive(Debug)]
pub enum Chunk {
    /// Records of one assignment.
    Records {
        /// The assignment they were read under.
        assignment: u64,
        /// Those of one partition in their order.
        records: Vec<Record>,
    },
    /// Between the last record and `next_offset` the partition holds none (transaction markers, a compacted tail).
    End {
        /// The assignment it was seen under.
        assignment: u64,
        /// The partition.
        partition: i32,
        /// The end of the log.
        next_offset: i64,
    },
}

/// What the pipeline tells the consumer.
#[derive(Debug)]
pub enum Command {
    /// Read these partitions from these offsets, if `assignment` is still the one.
    Start {
        /// The assignment they belong to.
        assignment: u64,
        /// Partition and offset.
        offsets: Vec<(i32, i64)>,
    },
    /// Read these partitions no further.
    Stop(Vec<i32>),
    /// Commit these to the group.
    Commit(Vec<(i32, i64)>),
    /// Read no more, stay in the group.
    Pause,
    /// Leave the group and end.
    Close,
}

/// The pipeline's ends of the channels.
pub struct Source {
    /// Records.
    pub chunks: mpsc::Receiver<Chunk>,
    /// Everything else.
    pub notices: mpsc::Receiver<Notice>,
    /// Orders.
    pub commands: Sender<Command>,
    /// Resolves when the thread has ended and the group is left.
    pub closed: oneshot::Receiver<()>,
}

/// Records in a chunk.
const CHUNK: usize = 256;
/// Chunks that may wait for the pipeline.
const CHUNKS: usize = 4;
/// Notices that may wait; a rebalance makes two.
const NOTICES: usize = 16;
/// How long the thread sleeps in a poll that finds nothing, and so how long an order may wait.
const POLL: Duration = Duration::from_millis(20);
/// How long it may get no record before it asks a broker whether there is one: less than what `Answers` waits for.
const SILENCE: Duration = Duration::from_secs(2);
/// For an answer to that, during which nothing is polled.
const ANSWER: Duration = Duration::from_secs(1);
/// How long the pipeline may have no room before partitions are paused and the poll goes on without records.
const PATIENCE: Duration = Duration::from_millis(500);
/// Starts the consumer's thread.
///
/// # Errors
/// When librdkafka refuses the configuration.
pub fn start(
    settings: &KafkaSettings,
    decoder: Decoder,
    partitions: Arc<AtomicI32>,
    last_poll: Arc<LastPoll>,
) -> Result<Source, KafkaError> {
    let (chunk_sender, chunks) = mpsc::channel(CHUNKS);
    let (notice_sender, notices) = mpsc::channel(NOTICES);
    let (commands, command_receiver) = channel();
    let (closed_sender, closed) = oneshot::channel();
    last_poll.polled();
    let rebalancer = Rebalancer::new(settings.topic.clone(), notice_sender, settings.revoke_timeout);
    let consumer: BaseConsumer<Rebalancer> = config(settings).create_with_context(rebalancer)?;
    consumer.subscribe(&[&settings.topic])?;
    let thread = Thread {
        consumer,
        decoder,
        partitions,
        topic: settings.topic.clone(),
        chunks: chunk_sender,
        commands: command_receiver,
        last_poll,
        runtime: Handle::current(),
        ends: Ends::default(),
        answers: Answers::of(&settings.brokers.join(",")),
        heard: Instant::now(),
        stopped: BTreeSet::new(),
        paused: false,
    };
    std::thread::Builder::new()
        .name("kafka-consumer".to_owned())
        .spawn(move || {
            let last_poll = Arc::clone(&thread.last_poll);
            thread.run();
            last_poll.ended();
            // The pipeline may have stopped waiting.
            let _ = closed_sender.send(());
        })
        .map_err(|_| KafkaError::Canceled)?;
    Ok(Source {
        chunks,
        notices,
        commands,
        closed,
    })
}

fn config(settings: &KafkaSettings) -> rdkafka::ClientConfig {
    let mut config = client::shared(settings);
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
        // librdkafka's second of waiting stalls a consumer whose buffer is small.
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

struct Thread {
    consumer: BaseConsumer<Rebalancer>,
    decoder: Decoder,
    partitions: Arc<AtomicI32>,
    topic: String,
    chunks: mpsc::Sender<Chunk>,
    commands: Receiver<Command>,
    last_poll: Arc<LastPoll>,
    runtime: Handle,
    ends: Ends,
    answers: Answers,
    /// When it last had something, or an answer.
    heard: Instant,
    /// Assigned, and read no further.
    stopped: BTreeSet<i32>,
    paused: bool,
}

impl Thread {
    fn run(mut self) {
        loop {
            while let Ok(command) = self.commands.try_recv() {
                if matches!(command, Command::Close) {
                    return;
                }
                self.obey(command);
            }
            self.last_poll.polled();
            let chunk = self.read();
            if !chunk.is_empty() && !self.hand_on(chunk) {
                return;
            }
            self.prove_ends();
            self.listen();
        }
    }

    /// A consumer that gets nothing may be at the end of everything, or have forgotten for good where its brokers are.
    fn listen(&mut self) {
        if self.heard.elapsed() < SILENCE {
            return;
        }
        let client = self.consumer.client();
        let answer = client.fetch_metadata(Some(&self.topic), ANSWER);
        self.answers.note(client, &answer);
        self.heard = Instant::now();
    }

    fn obey(&mut self, command: Command) {
        let done = match command {
            Command::Start { assignment, offsets } => self.start(assignment, &offsets),
            Command::Commit(offsets) => self
                .consumer
                .commit(&self.consumer.context().offsets(&offsets), CommitMode::Async),
            Command::Stop(partitions) => self.stop(&partitions),
            Command::Pause => {
                self.paused = true;
                self.consumer
                    .assignment()
                    .and_then(|all| self.consumer.pause(&all))
            }
            Command::Close => Ok(()),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "kafka consumer order failed");
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
        self.stopped.clear();
        let offsets = self.consumer.context().offsets(offsets);
        if !self.paused {
            // A partition that was paused when it was taken away is still paused when it comes back.
            self.consumer.resume(&offsets)?;
        }
        self.consumer.assign(&offsets)
    }

    fn stop(&mut self, partitions: &[i32]) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            self.stopped.insert(*partition);
            self.ends.left(*partition);
            list.add_partition(&self.topic, *partition);
        }
        self.consumer.pause(&list)
    }

    /// Polls once with patience, then takes what is there.
    fn read(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut patience = POLL;
        while records.len() < CHUNK {
            let Some(polled) = self.consumer.poll(patience) else {
                break;
            };
            patience = Duration::ZERO;
            match polled {
                Ok(message) => {
                    self.heard = Instant::now();
                    let record = read(&self.decoder, self.partitions.load(Ordering::Relaxed), &message);
                    self.ends.left(record.partition);
                    self.consumer
                        .context()
                        .assigned()
                        .next
                        .insert(record.partition, record.offset + 1);
                    records.push(record);
                }
                Err(KafkaError::PartitionEOF(partition)) => self.reached_end(partition),
                Err(error) => self.sort(error),
            }
        }
        records
    }

    fn sort(&self, error: KafkaError) {
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
                context.notify(Notice::Restart(error));
            }
            Some(code) if client::is_refusal(code) => {
                context.notify(Notice::Refused(error));
            }
            _ if fatal => {
                context.notify(Notice::Broken(error));
            }
            _ => tracing::warn!(%error, "kafka consumer error"),
        }
    }

    /// Hands records on; false: there is no pipeline any more. While it has no room, the poll goes on without records.
    fn hand_on(&mut self, records: Vec<Record>) -> bool {
        let assignment = self.consumer.context().assigned().assignment;
        loop {
            // The pipeline's channel is asked by a clone: while it has no room, this thread polls on.
            let chunks = self.chunks.clone();
            let reserved = self
                .runtime
                .block_on(async { timeout(PATIENCE, chunks.reserve()).await });
            match reserved {
                Ok(Ok(place)) => {
                    place.send(Chunk::Records { assignment, records });
                    self.resume();
                    return true;
                }
                Ok(Err(_)) => return false,
                Err(_) => self.wait_paused(),
            }
            // After a rebalance its next owner reads it.
            if self.consumer.context().assigned().assignment != assignment {
                self.resume();
                return true;
            }
        }
    }

    fn wait_paused(&mut self) {
        if !self.paused {
            self.paused = true;
            let paused = self
                .consumer
                .assignment()
                .and_then(|all| self.consumer.pause(&all));
            tracing::info!(
                error = paused.err().map(|error| error.to_string()),
                "paused: the writer has no room"
            );
        }
        self.last_poll.polled();
        match self.consumer.poll(Duration::ZERO) {
            // What was on its way when the pause came is read again after the resumption.
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                tracing::debug!(partition, offset, "record after a pause");
                drop(message);
                self.rewind(partition, offset);
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => self.sort(error),
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
            self.consumer.context().notify(Notice::Restart(error));
        }
    }

    fn resume(&mut self) {
        if self.paused {
            self.paused = false;
            let resumed = self.consumer.assignment().and_then(|all| {
                let mut list = TopicPartitionList::new();
                for element in all.elements() {
                    if !self.stopped.contains(&element.partition()) {
                        list.add_partition(element.topic(), element.partition());
                    }
                }
                self.consumer.resume(&list)
            });
            tracing::info!(error = resumed.err().map(|error| error.to_string()), "resumed");
        }
    }

    fn reached_end(&mut self, partition: i32) {
        if self.stopped.contains(&partition) {
            return;
        }
        let Some(next_offset) = self.ends.reached(partition, Instant::now()) else {
            return;
        };
        let mut assigned = self.consumer.context().assigned();
        assigned.next.insert(partition, next_offset);
        let assignment = assigned.assignment;
        drop(assigned);
        // Without room now, it is proved again later.
        let _ = self.chunks.try_send(Chunk::End {
            assignment,
            partition,
            next_offset,
        });
    }

    /// For partitions that rest at their end: asks where the log ends, and reads there once more if that is further.
    fn prove_ends(&mut self) {
        let next = |partition: i32| self.consumer.context().assigned().next.get(&partition).copied();
        match self.ends.due(Instant::now()) {
            None => {}
            Some(Due::Ask(partition)) => {
                let end = self
                    .consumer
                    .fetch_watermarks(&self.topic, partition, Duration::from_secs(1));
                match (next(partition), end) {
                    (Some(next), Ok((_, end))) if end > next => {
                        self.ends.further(partition, Instant::now(), end);
                    }
                    _ => self.ends.rest(partition, Instant::now()),
                }
            }
            Some(Due::Read(partition)) => match next(partition) {
                Some(next) => {
                    self.rewind(partition, next);
                    self.ends.reading(partition);
                }
                None => self.ends.rest(partition, Instant::now()),
            },
        }
    }
}

fn read(decoder: &Decoder, partitions: i32, message: &BorrowedMessage<'_>) -> Record {
    let headers = || {
        message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter().map(|header| (header.key, header.value)))
    };
    let incoming = Incoming {
        partition: message.partition(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key(),
        value: message.payload(),
    };
    let decoder = Decoder {
        partitions,
        ..*decoder
    };
    let (change, misplaced) = decoder.decode(&incoming, headers());
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: incoming.timestamp,
        change,
        misplaced,
        raw: RawRecord::copy(message.key(), message.payload(), headers()),
    }
}
