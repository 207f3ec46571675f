//! The poll loop of the consumer, on its own thread.
//!
//! It polls regardless of the rest of the process, so that the member stays in the group, and takes no records while the
//! pipeline is full. It commits and starts only at the offsets that the pipeline sends.

mod backpressure;
mod partition_queues;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ::kafka::watermarks::fetched_end;
use ::kafka::{ClientEvents, MetadataClient, RebootstrapMonitor};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::config::KafkaSettings;
use crate::consumer::channels::{Chunk, ConsumerCommand, ConsumerHandle};
use crate::consumer::client;
use crate::consumer::eof_tracker::{EofTracker, LogEnd};
use crate::consumer::group_membership::GroupMembership;
use crate::consumer::last_poll::LastPoll;
use crate::consumer::partition_check::{PartitionCheck, check, is_unreadable};
use crate::consumer::poll_loop::partition_queues::PartitionQueues;
use crate::consumer::rebalance::{self, RebalanceEvent, Rebalancer, StartOffset};
use crate::consumer::turns::Turns;
use crate::pipeline::consumed_record::Decoder;

/// The most records of a chunk.
const CHUNK_RECORDS: usize = 256;
/// Chunks in the channel to the pipeline.
const CHUNK_CAPACITY: usize = 4;
/// Events in the channel to the pipeline; a rebalance sends two.
const EVENT_CAPACITY: usize = 16;
/// How long the poll loop waits for records, and so the latency of a command and of a rebalance.
const POLL_TIMEOUT: Duration = Duration::from_millis(20);
/// How long no record may arrive before the poll loop requests metadata: less than `rebootstrap`'s timeout.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of that request, during which nothing is polled.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// How often fetched records can't be read until the partition is looked for.
const UNREADABLE_FETCHES: u32 = 3;

pub(super) struct PollLoop {
    /// Dropped before the consumer, which they keep open.
    queues: PartitionQueues,
    consumer: Arc<BaseConsumer<Rebalancer>>,
    decoder: Decoder,
    partitions: Arc<AtomicI32>,
    topic: String,
    chunks: mpsc::Sender<Chunk>,
    /// Records of a chunk.
    chunk_records: usize,
    commands: Receiver<ConsumerCommand>,
    last_poll: Arc<LastPoll>,
    runtime: Handle,
    ends: EofTracker,
    /// Requests the ends of partitions, on another thread.
    metadata: Arc<MetadataClient>,
    end_sender: Sender<RequestedEnds>,
    requested_ends: Receiver<RequestedEnds>,
    rebootstrap: RebootstrapMonitor,
    /// When the last record or metadata response arrived.
    last_response: Instant,
    /// Assigned partitions that are not read any more.
    halted: BTreeSet<i32>,
    /// The process ends, and no partition is read any more.
    paused: bool,
    turns: Turns,
    /// The pipeline was full at the last chunk.
    is_full: bool,
    settings: KafkaSettings,
    /// Fetches whose records could not be read.
    unreadable: u32,
    /// Partitions are being checked, on a thread of their own.
    checking: Arc<AtomicBool>,
}

/// The end of each requested partition, if its leader has responded.
type RequestedEnds = Vec<(i32, Option<LogEnd>)>;

/// Starts the consumer thread. A chunk has at most as many records as a micro-batch, `max_rows`, and one more of each partition
/// that was at its end.
///
/// # Errors
/// When librdkafka rejects the configuration.
pub fn spawn(
    settings: &KafkaSettings,
    metadata: Arc<MetadataClient>,
    decoder: Decoder,
    partitions: Arc<AtomicI32>,
    last_poll: Arc<LastPoll>,
    membership: Arc<GroupMembership>,
    max_rows: usize,
) -> Result<ConsumerHandle, KafkaError> {
    let (chunk_sender, chunks) = mpsc::channel(CHUNK_CAPACITY);
    let (event_sender, events) = mpsc::channel(EVENT_CAPACITY);
    let (commands, command_receiver) = channel();
    let (closed_sender, closed) = oneshot::channel();
    let (end_sender, requested_ends) = channel();
    last_poll.polled();
    let rebalancer = Rebalancer::new(
        settings.topic().to_owned(),
        event_sender,
        settings.revoke_timeout,
        membership,
        ClientEvents::new(&client::connection(settings)),
    );
    let config = config(settings, partitions.load(Ordering::Relaxed));
    let consumer: BaseConsumer<Rebalancer> = config.create_with_context(rebalancer)?;
    consumer.subscribe(&[settings.topic()])?;
    let poll_loop = PollLoop {
        queues: PartitionQueues::default(),
        consumer: Arc::new(consumer),
        decoder,
        partitions,
        topic: settings.topic().to_owned(),
        chunks: chunk_sender,
        chunk_records: max_rows.min(CHUNK_RECORDS),
        commands: command_receiver,
        last_poll,
        runtime: Handle::current(),
        ends: EofTracker::default(),
        metadata,
        end_sender,
        requested_ends,
        rebootstrap: RebootstrapMonitor::new(&settings.brokers.join(",")),
        last_response: Instant::now(),
        halted: BTreeSet::new(),
        paused: false,
        turns: Turns::default(),
        is_full: false,
        settings: settings.clone(),
        unreadable: 0,
        checking: Arc::default(),
    };
    thread::Builder::new()
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

fn config(settings: &KafkaSettings, partitions: i32) -> rdkafka::ClientConfig {
    let mut config = client::fetch_config(settings, partitions);
    let session = settings.session_timeout.as_millis();
    config
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", session.to_string())
        .set("heartbeat.interval.ms", (session / 4).max(1).to_string());
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
            // A rebalance ends a read. The records before it belong to the assignment that it ended.
            let assignment = self.consumer.context().assigned().assignment;
            let records = self.read();
            if !records.is_empty() && !self.send(assignment, records) {
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
            ConsumerCommand::Commit(offsets) => self.commit(&offsets),
            ConsumerCommand::Halt(partitions) => self.halt(&partitions),
            ConsumerCommand::Pause => self.pause(),
            ConsumerCommand::Close => Ok(()),
        };
        if let Err(error) = result {
            tracing::warn!(%error, "failed to execute a command of the kafka consumer");
        }
    }

    fn start(&mut self, assignment: u64, offsets: &[StartOffset]) -> Result<(), KafkaError> {
        let (is_first, all): (_, Vec<_>) = {
            let mut assigned = self.consumer.context().assigned();
            if assigned.assignment != assignment {
                return Ok(());
            }
            let is_first = assigned.next.is_empty();
            assigned
                .next
                .extend(offsets.iter().map(|start| (start.partition, *start)));
            (is_first, assigned.next.values().copied().collect())
        };
        if is_first {
            self.ends.clear();
            self.halted.clear();
            self.queues.clear();
            self.turns = Turns::default();
        }
        self.queues.split(&self.consumer, &self.topic, offsets);
        for start in offsets {
            self.turns.start(start.partition, Instant::now());
        }
        if !self.paused {
            // A partition that was paused when it was revoked is still paused when it is assigned again.
            self.consumer
                .resume(&rebalance::assignment(&self.topic, offsets))?;
        }
        rebalance::assign(&self.consumer, &self.topic, &all, offsets)
    }

    fn halt(&mut self, partitions: &[i32]) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            self.halted.insert(*partition);
            self.ends.remove(*partition);
            self.turns.remove(*partition);
            list.add_partition(&self.topic, *partition);
        }
        self.consumer.pause(&list)
    }

    fn handle_error(&mut self, error: KafkaError) {
        use RDKafkaErrorCode as Code;
        if is_unreadable(&error) {
            self.find_unreadable(&error);
            return;
        }
        let context = self.consumer.context();
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let is_rejected = context.is_rejected(&error);
        match error.rdkafka_error_code() {
            Some(
                Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic,
            ) => {
                context.send(RebalanceEvent::Restart(error));
            }
            _ if is_rejected => {
                context.send(RebalanceEvent::Rejected(error));
            }
            _ if fatal => {
                context.send(RebalanceEvent::Fatal(error));
            }
            // The context has logged it, unless it is an outage.
            _ => tracing::debug!(%error, "kafka consumer error"),
        }
    }

    /// Finds the partition whose records can't be read, after the same error a few times. librdkafka does not name it.
    fn find_unreadable(&mut self, error: &KafkaError) {
        self.unreadable += 1;
        tracing::debug!(%error, "failed to read records");
        if self.unreadable < UNREADABLE_FETCHES || self.checking.swap(true, Ordering::Relaxed) {
            return;
        }
        self.unreadable = 0;
        let context = self.consumer.context();
        let (assignment, next) = {
            let assigned = context.assigned();
            (assigned.assignment, assigned.next.clone())
        };
        let halted = self.halted.clone();
        let (settings, events, checking) = (
            self.settings.clone(),
            context.sender(),
            Arc::clone(&self.checking),
        );
        thread::spawn(move || {
            for start in next
                .into_values()
                .filter(|start| !halted.contains(&start.partition))
            {
                if let Ok(PartitionCheck::Unreadable(error)) = check(&settings, start) {
                    let StartOffset {
                        partition, offset, ..
                    } = start;
                    // The pipeline may have ended.
                    let _ = events.blocking_send(RebalanceEvent::Unreadable {
                        assignment,
                        partition,
                        offset,
                        error,
                    });
                }
            }
            checking.store(false, Ordering::Relaxed);
        });
    }

    fn rewind(&self, to: StartOffset) {
        let list = rebalance::assignment(&self.topic, &[to]);
        let seek = self.consumer.seek_partitions(list, Duration::from_secs(5));
        if let Err(error) = seek {
            self.consumer.context().send(RebalanceEvent::Restart(error));
        }
    }

    fn reached_end(&mut self, partition: i32) {
        if self.halted.contains(&partition) {
            return;
        }
        let fetched = fetched_end(self.consumer.client(), &self.topic, partition);
        let Some(end) = self.ends.reached(partition, Instant::now(), fetched) else {
            return;
        };
        let context = self.consumer.context();
        let assigned = context.assigned();
        let Some(next) = assigned.next.get(&partition) else {
            return;
        };
        // If the channel is full, or the pipeline has not received all records before, the end is verified again later.
        context.try_send(RebalanceEvent::Eof {
            assignment: assigned.assignment,
            next_offset: next.offset,
            end: StartOffset {
                partition,
                offset: end.committed,
                leader_epoch: end.leader_epoch,
            },
        });
    }

    /// The offset of a checkpoint is further than the last record if the pipeline has accepted an end.
    fn commit(&self, offsets: &[StartOffset]) -> Result<(), KafkaError> {
        let context = self.consumer.context();
        for offset in offsets {
            if let Some(next) = context.assigned().next.get_mut(&offset.partition) {
                next.skip_to(*offset);
            }
        }
        let list = rebalance::assignment(&self.topic, offsets);
        self.consumer.commit(&list, CommitMode::Async)
    }

    /// For partitions that are idle at their end: requests the end of the log, and reads again if it is further.
    fn verify_ends(&mut self) {
        let now = Instant::now();
        for (partition, end) in self.requested_ends.try_iter().flatten() {
            let next = self.next(partition).map(|next| next.offset);
            self.ends.reported(partition, now, next, end);
        }
        let idle = self.ends.request(now);
        if !idle.is_empty() {
            let next = |partition| (partition, self.next(partition).map(|next| next.offset));
            self.request_ends(idle.into_iter().map(next).collect());
        }
        let Some(partition) = self.ends.read_again(now) else {
            return;
        };
        match self.next(partition) {
            Some(next) => {
                self.rewind(next);
                self.ends.reading(partition);
            }
            None => self.ends.idle(partition, now),
        }
    }

    fn next(&self, partition: i32) -> Option<StartOffset> {
        self.consumer.context().assigned().next.get(&partition).copied()
    }

    /// Requests the ends of partitions, whose consumer is at these offsets. A leader that does not respond must not keep this
    /// thread from polling.
    fn request_ends(&self, partitions: Vec<(i32, Option<i64>)>) {
        let (metadata, sender) = (Arc::clone(&self.metadata), self.end_sender.clone());
        self.runtime.spawn(async move {
            let at = partitions.clone();
            let found = metadata.request(move |metadata| ends(metadata, &at)).await;
            let found = found.unwrap_or_default();
            let ends = partitions
                .into_iter()
                .map(|(partition, _)| (partition, found.get(&partition).copied()));
            // The poll loop may have ended.
            let _ = sender.send(ends.collect());
        });
    }
}

/// Returns the end of each partition that is further than the consumer. Most are not, and need no high watermark.
fn ends(
    metadata: &MetadataClient,
    partitions: &[(i32, Option<i64>)],
) -> Result<BTreeMap<i32, LogEnd>, KafkaError> {
    let requested: Vec<_> = partitions.iter().map(|(partition, _)| *partition).collect();
    let offsets = metadata.watermarks(&requested)?.offsets;
    let further: BTreeMap<_, _> = partitions
        .iter()
        .filter_map(|(partition, next)| Some((*partition, offsets.get(partition)?.1, (*next)?)))
        .filter(|(_, committed, next)| committed > next)
        .map(|(partition, committed, _)| (partition, committed))
        .collect();
    if further.is_empty() {
        return Ok(BTreeMap::new());
    }
    let further_partitions: Vec<_> = further.keys().copied().collect();
    let log_ends = metadata.log_ends(&further_partitions)?;
    let end = |(partition, committed)| {
        let log_end = log_ends.get(&partition)?;
        let end = LogEnd {
            committed,
            high_watermark: log_end.offset,
            leader_epoch: log_end.leader_epoch,
        };
        // Another leader may lack what the earlier one had committed.
        (end.committed <= end.high_watermark).then_some((partition, end))
    };
    Ok(further.into_iter().filter_map(end).collect())
}
