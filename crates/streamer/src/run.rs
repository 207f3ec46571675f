//! The life of the streamer: wait for both servers, prepare topics and tables, work; start anew when the topic changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use service::process::EXIT_CONFIG;
use service::{Backoff, Context, Dependency, ExitStatus};
use thiserror::Error;
use tokio::time::sleep;

use crate::assign::{AssignError, Assigner};
use crate::cassandra::checkpoints::Checkpoints;
use crate::cassandra::fault::Fault;
use crate::cassandra::schema::{self, SchemaError, Verified};
use crate::cassandra::session::Live;
use crate::cassandra::sessions::{Sessions, Unusable};
use crate::cassandra::writer::{WriteError, Writer};
use crate::kafka::broker::{Broker, Topic};
use crate::kafka::dead_letters::DeadLetters;
use crate::kafka::last_poll::LastPoll;
use crate::kafka::{client, source, topics};
use crate::metrics::StreamerMetrics;
use crate::pipeline::{Held, Pipeline, PipelineError};
use crate::probes::{CassandraProbe, Found, KafkaProbe, Standstill};
use crate::record::Decoder;
use crate::seldom::Seldom;
use crate::settings::Settings;
use crate::settle::{SettleError, Settler};
use crate::stall::Stall;
use crate::stopped::Stopped;

/// Why the streamer ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// Kafka refuses the configuration, the credentials or the rights.
    #[error("kafka refuses this client")]
    Kafka(#[source] KafkaError),
    /// Cassandra can't be used.
    #[error(transparent)]
    Cassandra(#[from] Unusable),
    /// The tables can't be used.
    #[error("the tables can't be used")]
    Schema(#[source] SchemaError),
    /// The table was dropped, or dropped and created anew, while the streamer ran.
    #[error(
        "table {0} was replaced or dropped: run `streamer replay` to write its rows again, or `streamer accept-table`"
    )]
    OtherTable(String),
    /// The work ended by itself.
    #[error("the pipeline stopped")]
    Pipeline(#[from] PipelineError),
}

impl ExitStatus for RunError {
    fn exit_code(&self) -> u8 {
        let only_the_operator = match self {
            Self::Kafka(_) | Self::Cassandra(_) | Self::Schema(_) | Self::OtherTable(_) => true,
            Self::Pipeline(error) => matches!(
                error,
                PipelineError::Refused(_)
                    | PipelineError::Unusable(_)
                    | PipelineError::Settle(SettleError::Write(
                        WriteError::Schema(_)
                            | WriteError::OtherTable(_)
                            | WriteError::Unusable(_)
                            | WriteError::Refused(_)
                    ))
                    | PipelineError::Checkpoint(_)
                    | PipelineError::Assign(
                        AssignError::NoStart(_)
                            | AssignError::Unusable(_)
                            | AssignError::Kafka(_)
                            | AssignError::Cassandra(_)
                    )
            ),
        };
        if only_the_operator { EXIT_CONFIG } else { 1 }
    }
}

/// Runs until the process is told to stop.
///
/// # Errors
/// [`RunError`], when only a restart or the operator can help.
pub async fn run(settings: Settings, context: Context) -> Result<(), RunError> {
    let metrics = Arc::new(StreamerMetrics::new(&context.metrics));
    let kafka = context.health.dependency("kafka");
    let sessions = Arc::new(Sessions::new(
        settings.cassandra.clone(),
        context.health.dependency("cassandra"),
    ));
    let broker = Arc::new(Broker::new(&settings.kafka).map_err(RunError::Kafka)?);
    let checkpoints = Arc::new(Checkpoints::new(&settings, instance()));
    let last_poll = Arc::new(LastPoll::default());
    let watched = Arc::clone(&last_poll);
    context.health.watch("poll", move || watched.check());
    let stopped = Arc::new(Stopped::new(context.health.clone(), metrics.stopped.clone()));
    let dead_letter_topic = Arc::new(Seldom::new(context.health.clone(), "dead_letter_topic"));
    let stall = Arc::new(Stall::new(settings.checkpoint.stall_timeout));
    let watched = Arc::clone(&stall);
    context.health.watch("progress", move || watched.check());
    let streamer = Streamer {
        settings: Arc::new(settings),
        context,
        metrics,
        kafka,
        sessions,
        broker,
        checkpoints,
        last_poll,
        stopped,
        stall,
        dead_letter_topic,
    };
    loop {
        let Some((topic, verified)) = streamer.prepare().await? else {
            return Ok(());
        };
        match streamer.work(topic, verified).await? {
            Ended::Stopped => return Ok(()),
            Ended::Restart(reason) => {
                streamer.metrics.restarts.with_label_values(&[reason]).inc();
                tracing::warn!(reason, "starting anew from the checkpoints");
            }
        }
    }
}

struct Streamer {
    settings: Arc<Settings>,
    context: Context,
    metrics: Arc<StreamerMetrics>,
    kafka: Dependency,
    sessions: Arc<Sessions>,
    broker: Arc<Broker>,
    checkpoints: Arc<Checkpoints>,
    last_poll: Arc<LastPoll>,
    stopped: Arc<Stopped>,
    stall: Arc<Stall>,
    dead_letter_topic: Arc<Seldom>,
}

enum Ended {
    Stopped,
    Restart(&'static str),
}

impl Streamer {
    /// Topics and tables; none, if the process is told to stop before both servers are there.
    async fn prepare(&self) -> Result<Option<(Topic, Verified)>, RunError> {
        tokio::select! {
            () = self.context.shutdown.cancelled() => Ok(None),
            prepared = async { futures::try_join!(self.prepare_topics(), self.prepare_tables()) } => prepared.map(Some),
        }
    }

    async fn prepare_topics(&self) -> Result<Topic, RunError> {
        let mut delays = Backoff::default().delays();
        loop {
            let prepared = match topics::ensure(&self.settings.kafka, &self.broker).await {
                Ok(()) => self.broker.ask(Broker::topic).await,
                Err(error) => Err(error),
            };
            match prepared {
                Ok(topic) => {
                    self.kafka.ready();
                    return Ok(topic);
                }
                Err(error) if client::is_refused(&error) => return Err(RunError::Kafka(error)),
                Err(error) => self.kafka.unready(error.to_string()),
            }
            wait(&mut delays).await;
        }
    }

    async fn prepare_tables(&self) -> Result<Verified, RunError> {
        let mut unsettled = None;
        let mut delays = Backoff::default().delays();
        loop {
            let live = self.sessions.live().await?;
            match self.tables(&live).await {
                Ok(verified) => {
                    self.sessions.rows_flow();
                    return Ok(verified);
                }
                // A table that another replica has just created is not known to every node at once.
                Err(SchemaError::Failed {
                    fault: Fault::Invalid(error),
                    operation,
                }) if unsettled.get_or_insert_with(Instant::now).elapsed() < SCHEMA_SETTLES => {
                    self.sessions
                        .dependency()
                        .unready(format!("{operation}: {error}"));
                }
                Err(SchemaError::Failed {
                    fault: Fault::Retry { kind, .. },
                    operation,
                }) => {
                    self.sessions.dependency().unready(format!("{operation}: {kind}"));
                }
                Err(SchemaError::Failed {
                    fault: Fault::Reconnect { error, .. },
                    operation,
                }) => {
                    self.sessions
                        .dependency()
                        .unready(format!("{operation}: {error}"));
                }
                Err(error) => return Err(RunError::Schema(error)),
            }
            wait(&mut delays).await;
        }
    }

    async fn tables(&self, live: &Live) -> Result<Verified, SchemaError> {
        // What another replica has just created is not created again.
        schema::settle(live).await?;
        schema::ensure_checkpoints(live, &self.settings.cassandra).await?;
        let read = |fault| SchemaError::Failed {
            operation: "read the checkpoints",
            fault,
        };
        let checkpoints = self.checkpoints.load(live).await.map_err(read)?;
        let verified = schema::ensure_table(live, &self.settings.cassandra, !checkpoints.is_empty()).await?;
        // Prepared now, so that the first record does not wait for it.
        let prepare = |fault| SchemaError::Failed {
            operation: "prepare the statements",
            fault,
        };
        live.statements(&self.settings.cassandra).await.map_err(prepare)?;
        Ok(verified)
    }

    async fn work(&self, topic: Topic, verified: Verified) -> Result<Ended, RunError> {
        let held = Held::default();
        let partitions = Arc::new(AtomicI32::new(topic.partitions));
        let decoder = Decoder {
            shape: verified.shape,
            tombstones: self.settings.tombstones,
            partitions: partitions.load(Ordering::Relaxed),
        };
        let source = source::start(
            &self.settings.kafka,
            decoder,
            Arc::clone(&partitions),
            Arc::clone(&self.last_poll),
        )
        .map_err(RunError::Kafka)?;
        let pipeline = self.pipeline(topic, verified, source, Arc::clone(&held))?;
        let interval = self.settings.kafka.probe_interval;
        let kafka_probe = KafkaProbe {
            broker: Arc::clone(&self.broker),
            topic,
            partitions,
            held,
            last_poll: Arc::clone(&self.last_poll),
            dependency: self.kafka.clone(),
            metrics: Arc::clone(&self.metrics),
            standstill: self.standstill(),
            interval,
        };
        let cassandra_probe = CassandraProbe {
            sessions: Arc::clone(&self.sessions),
            verified,
            interval,
        };
        // The pipeline stops through its own token, so that it leaves the group whatever ends it.
        let stop = self.context.shutdown.child_token();
        let mut pipeline = std::pin::pin!(pipeline.run(stop.clone()));
        let found = tokio::select! {
            ended = &mut pipeline => return ended_by_itself(ended),
            reason = kafka_probe.run() => Ok(Ended::Restart(reason)),
            found = cassandra_probe.run() => Err(match found {
                Found::OtherTable => RunError::OtherTable(self.settings.cassandra.qualified_table()),
                Found::Unusable(unusable) => RunError::Cassandra(unusable),
            }),
        };
        stop.cancel();
        if tokio::time::timeout(self.settings.kafka.revoke_timeout, pipeline)
            .await
            .is_err()
        {
            tracing::warn!("not everything was finished; it is done again");
        }
        found
    }

    fn standstill(&self) -> Standstill {
        // Another assignment follows: what was seen of the one before says nothing.
        self.stall.excuse(Instant::now());
        Standstill {
            stall: Arc::clone(&self.stall),
            stopped: Arc::clone(&self.stopped),
            servers: [self.kafka.clone(), self.sessions.dependency().clone()],
            dead_letter_topic: Arc::clone(&self.dead_letter_topic),
        }
    }

    fn pipeline(
        &self,
        topic: Topic,
        verified: Verified,
        source: source::Source,
        held: Held,
    ) -> Result<Pipeline, RunError> {
        let metrics = Arc::clone(&self.metrics);
        let dead_letters = DeadLetters::new(
            &self.settings.kafka,
            Arc::clone(&self.dead_letter_topic),
            Arc::clone(&metrics),
        )
        .map_err(RunError::Kafka)?;
        let writer = Writer::new(Arc::clone(&self.sessions), verified, Arc::clone(&metrics));
        let settler = Settler {
            writer,
            dead_letters,
            topic_id: topic.id,
            metrics: Arc::clone(&metrics),
        };
        let assigner = Assigner {
            settings: Arc::clone(&self.settings),
            sessions: Arc::clone(&self.sessions),
            checkpoints: Arc::clone(&self.checkpoints),
            broker: Arc::clone(&self.broker),
            topic,
            verified,
        };
        Ok(Pipeline::new(
            Arc::new(assigner),
            Arc::new(settler),
            source,
            metrics,
            held,
            Arc::clone(&self.stopped),
        ))
    }
}

fn ended_by_itself(ended: Result<(), PipelineError>) -> Result<Ended, RunError> {
    match ended {
        Ok(()) => Ok(Ended::Stopped),
        Err(PipelineError::Restart(error)) => {
            tracing::warn!(%error, "the log changed under the consumer");
            Ok(Ended::Restart("log_changed"))
        }
        Err(PipelineError::Assign(AssignError::TopicChanged)) => Ok(Ended::Restart("topic_recreated")),
        Err(error) => Err(error.into()),
    }
}

/// Nodes of a cluster agree on its tables within moments; a difference that lasts is none of settling.
const SCHEMA_SETTLES: Duration = Duration::from_secs(10);

async fn wait(delays: &mut (impl Iterator<Item = Duration> + Send)) {
    if let Some(delay) = delays.next() {
        sleep(delay).await;
    }
}

/// For people who look at the checkpoints: which process wrote them.
pub(crate) fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}
