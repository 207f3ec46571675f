//! The life of the service: prepare topics and tables, run the pipeline, and restart it when the topic changes.

mod prepare;
mod status;

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::future::BoxFuture;
use model::Contract;
use service::process::EXIT_CONFIG;
use service::{Context, Dependency, ExitStatus, LogLimiter};
use thiserror::Error;
use tokio_util::task::TaskTracker;

use crate::cassandra::schema::{SchemaError, TableInfo};
use crate::cassandra::session_pool::{SessionError, SessionPool};
use crate::cassandra::writer::{RowWriteError, RowWriter};
use crate::checkpoint::start_offset_resolver::{ResolveError, StartOffsetResolver};
use crate::checkpoint::store::{CheckpointStore, instance};
use crate::config::{SameTopic, Settings};
use crate::consumer::channels::ConsumerHandle;
use crate::consumer::group_membership::GroupMembership;
use crate::consumer::last_poll::LastPoll;
use crate::consumer::poll_loop;
use crate::dead_letters::halted_partitions::HaltedPartitions;
use crate::dead_letters::log::DeadLetterLog;
use crate::dead_letters::producer::DeadLetterProducer;
use crate::dead_letters::retention::RetentionTooShort;
use crate::health::lazy_dependency::LazyDependency;
use crate::health::probes::{CassandraProbe, KafkaProbe, StallInputs, TableProbeOutcome};
use crate::health::stall_detector::StallDetector;
use crate::ledger::recent_latencies::RecentLatencies;
use crate::ledger::routes::{LedgerReader, routes};
use crate::ledger::store::LedgerStore;
use crate::metrics::StreamerMetrics;
use crate::pipeline::batch_writer::{BatchWriteError, BatchWriter};
use crate::pipeline::consumed_record::Decoder;
use crate::pipeline::error::PipelineError;
use crate::pipeline::{AssignedPartitions, Pipeline};
use ::kafka::{ClientRejected, MetadataClient, TopicInfo};

/// Why the service ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// Kafka rejected the configuration, the credentials or the permissions.
    #[error(transparent)]
    Kafka(#[from] ClientRejected),
    /// Cassandra can't be used.
    #[error(transparent)]
    Cassandra(#[from] SessionError),
    /// The configuration is invalid.
    #[error(transparent)]
    SameTopic(#[from] SameTopic),
    /// Dead letters would expire before their records.
    #[error(transparent)]
    Retention(#[from] RetentionTooShort),
    /// The tables can't be used.
    #[error("failed to use the tables")]
    Schema(#[source] SchemaError),
    /// The table was dropped or recreated while the service ran.
    #[error(
        "table {0} was replaced or dropped: run `streamer replay` to write its rows again, or `streamer accept-table` to \
         continue without them"
    )]
    OtherTable(String),
    /// The pipeline failed.
    #[error("the pipeline failed")]
    Pipeline(#[from] PipelineError),
}

impl ExitStatus for RunError {
    fn exit_code(&self) -> u8 {
        let needs_operator = match self {
            Self::Kafka(_)
            | Self::Cassandra(_)
            | Self::SameTopic(_)
            | Self::Retention(_)
            | Self::Schema(_)
            | Self::OtherTable(_) => true,
            Self::Pipeline(PipelineError::Write(BatchWriteError::DeadLetter(error))) => error.is_rejected(),
            Self::Pipeline(error) => matches!(
                error,
                PipelineError::Rejected(_)
                    | PipelineError::Session(_)
                    | PipelineError::Write(BatchWriteError::Rows(
                        RowWriteError::Schema(_)
                            | RowWriteError::OtherTable(_)
                            | RowWriteError::Session(_)
                            | RowWriteError::Fatal(_)
                    ))
                    | PipelineError::Checkpoint(_)
                    | PipelineError::Assign(
                        ResolveError::Start(_)
                            | ResolveError::Session(_)
                            | ResolveError::Kafka(_)
                            | ResolveError::Cassandra(_)
                    )
            ),
        };
        if needs_operator { EXIT_CONFIG } else { 1 }
    }
}

/// Runs the service for the records of `contract` until the process shuts down.
///
/// The future is boxed here, so that the binary does not compile the service again.
///
/// # Errors
/// [`RunError`], when only a restart or the operator can help.
pub fn run(
    settings: Settings,
    contract: Arc<Contract>,
    context: Context,
) -> BoxFuture<'static, Result<(), RunError>> {
    Box::pin(async move {
        let settings = settings.resolve(&contract)?;
        Streamer::new(settings, contract, context)?.run().await
    })
}

struct Streamer {
    settings: Arc<Settings>,
    contract: Arc<Contract>,
    context: Context,
    metrics: Arc<StreamerMetrics>,
    kafka: Dependency,
    sessions: Arc<SessionPool>,
    metadata: Arc<MetadataClient>,
    checkpoints: Arc<CheckpointStore>,
    ledger: Arc<LedgerStore>,
    end_to_end: Arc<RecentLatencies>,
    last_poll: Arc<LastPoll>,
    halted: Arc<HaltedPartitions>,
    detector: Arc<StallDetector>,
    dead_letter_topic: Arc<LazyDependency>,
    /// The consumer has reported that the log changed.
    log_changed: Arc<AtomicBool>,
    dead_letter_log: Arc<DeadLetterLog>,
    foreign_members: Arc<LazyDependency>,
}

/// The reason of a restart after which the log may be truncated below a checkpoint.
const LOG_CHANGED: &str = "log_changed";

enum RunEnd {
    Shutdown,
    Restart(&'static str),
}

impl Streamer {
    fn new(settings: Settings, contract: Arc<Contract>, context: Context) -> Result<Self, RunError> {
        let metrics = Arc::new(StreamerMetrics::new(&context.metrics));
        let dead_letter_log = Arc::default();
        status::add_sections(&context.status, &metrics, &dead_letter_log);
        let kafka = context.health.dependency("kafka");
        let cassandra = context.health.dependency("cassandra");
        let metadata = crate::consumer::client::metadata(&settings.kafka)
            .map_err(|error| ClientRejected::configuration(&settings.kafka.brokers, error))?;
        let last_poll = Arc::new(LastPoll::default());
        let watched = Arc::clone(&last_poll);
        context.health.watch("poll", move || watched.check());
        let detector = Arc::new(StallDetector::new(settings.checkpoint.stall_timeout));
        let watched = Arc::clone(&detector);
        context.health.watch("progress", move || watched.check());
        let sessions = Arc::new(SessionPool::new(
            settings.cassandra.clone(),
            Arc::clone(&contract),
            cassandra,
        ));
        let ledger = Arc::new(LedgerStore::new(&settings, &instance()));
        context.admin.add(routes(Arc::new(LedgerReader {
            sessions: Arc::clone(&sessions),
            ledger: Arc::clone(&ledger),
        })));
        let end_to_end = Arc::<RecentLatencies>::default();
        let recent = Arc::clone(&end_to_end);
        context.status.section("end_to_end", move || {
            let summary = recent.summary(Instant::now());
            async { summary }
        });
        Ok(Self {
            sessions,
            ledger,
            end_to_end,
            checkpoints: Arc::new(CheckpointStore::new(&settings, Arc::clone(&contract), instance())),
            halted: Arc::new(HaltedPartitions::new(
                context.health.clone(),
                metrics.halted.clone(),
            )),
            dead_letter_topic: Arc::new(LazyDependency::new(context.health.clone(), "dead_letter_topic")),
            dead_letter_log,
            foreign_members: Arc::new(LazyDependency::new(context.health.clone(), "group")),
            settings: Arc::new(settings),
            contract,
            context,
            metrics,
            kafka,
            metadata: Arc::new(metadata),
            last_poll,
            detector,
            log_changed: Arc::default(),
        })
    }

    async fn run(self) -> Result<(), RunError> {
        loop {
            let Some((topic, table)) = self.prepare().await? else {
                return Ok(());
            };
            match self.stream(topic, table).await? {
                RunEnd::Shutdown => return Ok(()),
                RunEnd::Restart(reason) => {
                    if reason == LOG_CHANGED {
                        self.log_changed.store(true, Ordering::Relaxed);
                    }
                    self.metrics.restarts.with_label_values(&[reason]).inc();
                    tracing::warn!(reason, "restarting from the checkpoints");
                }
            }
        }
    }

    async fn stream(&self, topic: TopicInfo, table: TableInfo) -> Result<RunEnd, RunError> {
        // A dead letter that an earlier pipeline could not write is read again, or was deleted with its topic.
        self.dead_letter_topic.ready();
        let assigned = AssignedPartitions::default();
        status::add_lag(&self.context.status, &self.metrics, &assigned, &self.halted);
        let partitions = Arc::new(AtomicI32::new(topic.partitions));
        let decoder = Decoder {
            contract: Arc::clone(&self.contract),
            shape: table.shape,
            tombstones: self.settings.tombstones,
            partitions: partitions.load(Ordering::Relaxed),
        };
        let membership = Arc::new(GroupMembership::default());
        let consumer = poll_loop::spawn(
            &self.settings.kafka,
            Arc::clone(&self.metadata),
            decoder,
            Arc::clone(&partitions),
            Arc::clone(&self.last_poll),
            Arc::clone(&membership),
            self.settings.batch().max_rows,
        )
        .map_err(|error| ClientRejected::configuration(&self.settings.kafka.brokers, error))?;
        let tasks = TaskTracker::new();
        let pipeline = self.pipeline(topic, table, consumer, Arc::clone(&assigned), tasks.clone())?;
        let interval = self.settings.kafka.probe_interval;
        let kafka_probe = KafkaProbe {
            metadata: Arc::clone(&self.metadata),
            topic,
            partitions,
            assigned,
            last_poll: Arc::clone(&self.last_poll),
            membership,
            foreign_members: Arc::clone(&self.foreign_members),
            dependency: self.kafka.clone(),
            metrics: Arc::clone(&self.metrics),
            stall_inputs: self.stall_inputs(),
            dead_letter_log: Arc::clone(&self.dead_letter_log),
            interval,
        };
        let cassandra_probe = CassandraProbe {
            sessions: Arc::clone(&self.sessions),
            table,
            interval,
        };
        // The pipeline has its own token, so that it leaves the group however this function ends.
        let stop = self.context.shutdown.child_token();
        let mut pipeline = Box::pin(pipeline.run(stop.clone()));
        let outcome = tokio::select! {
            ended = &mut pipeline => {
                wait_for_writes(&tasks).await;
                return pipeline_ended(ended);
            }
            reason = kafka_probe.run() => Ok(RunEnd::Restart(reason)),
            outcome = cassandra_probe.run() => Err(match outcome {
                TableProbeOutcome::OtherTable => RunError::OtherTable(self.settings.cassandra.qualified_table()),
                TableProbeOutcome::Session(error) => RunError::Cassandra(error),
            }),
        };
        stop.cancel();
        if tokio::time::timeout(self.settings.kafka.revoke_timeout, pipeline)
            .await
            .is_err()
        {
            tracing::warn!(
                "pipeline not drained within kafka.revoke_timeout: the remaining records are written again"
            );
        }
        wait_for_writes(&tasks).await;
        outcome
    }

    fn stall_inputs(&self) -> StallInputs {
        // The observations of an earlier assignment do not apply to the next one.
        self.detector.reset(Instant::now());
        StallInputs {
            detector: Arc::clone(&self.detector),
            halted: Arc::clone(&self.halted),
            cassandra: self.sessions.readiness().dependency().clone(),
            dead_letter_topic: Arc::clone(&self.dead_letter_topic),
        }
    }

    fn pipeline(
        &self,
        topic: TopicInfo,
        table: TableInfo,
        consumer: ConsumerHandle,
        assigned: AssignedPartitions,
        tasks: TaskTracker,
    ) -> Result<Pipeline, RunError> {
        let metrics = Arc::clone(&self.metrics);
        let dead_letters = DeadLetterProducer::new(
            &self.settings.kafka,
            Arc::clone(&self.dead_letter_topic),
            Arc::clone(&self.dead_letter_log),
            Arc::clone(&metrics),
        )
        .map_err(|error| ClientRejected::configuration(&self.settings.kafka.brokers, error))?;
        let batch_writer = BatchWriter {
            writer: RowWriter::new(Arc::clone(&self.sessions), table, Arc::clone(&metrics)),
            dead_letters,
            topic_id: topic.id,
            metrics: Arc::clone(&metrics),
            end_to_end: Arc::clone(&self.end_to_end),
            tracer: self.context.tracer.clone(),
        };
        let resolver = StartOffsetResolver {
            settings: Arc::clone(&self.settings),
            sessions: Arc::clone(&self.sessions),
            checkpoints: Arc::clone(&self.checkpoints),
            ledger: Arc::clone(&self.ledger),
            metadata: Arc::clone(&self.metadata),
            topic,
            table,
            log_changed: Arc::clone(&self.log_changed),
            retries: Mutex::new(LogLimiter::per_minute(1)),
        };
        Ok(Pipeline::new(
            Arc::new(resolver),
            Arc::new(batch_writer),
            consumer,
            metrics,
            assigned,
            Arc::clone(&self.halted),
            tasks,
        ))
    }
}

/// Waits for the aborted micro-batches of a pipeline that was dropped: none writes beside its successor.
async fn wait_for_writes(tasks: &TaskTracker) {
    tasks.close();
    tasks.wait().await;
}

fn pipeline_ended(ended: Result<(), PipelineError>) -> Result<RunEnd, RunError> {
    match ended {
        Ok(()) => Ok(RunEnd::Shutdown),
        Err(PipelineError::Restart(error)) => {
            tracing::warn!(%error, "the log changed under the consumer");
            Ok(RunEnd::Restart(LOG_CHANGED))
        }
        Err(PipelineError::Assign(ResolveError::TopicChanged)) => Ok(RunEnd::Restart("topic_recreated")),
        Err(error) => Err(error.into()),
    }
}
