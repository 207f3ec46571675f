//! Probes periodically whether Kafka responds and the topic is writable, and creates the topic if it is absent.
//!
//! Writes no records.

use std::sync::Arc;
use std::time::Duration;

use ::kafka::TopicConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use service::Backoff;
use service::process::chain;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::client;
use super::producer::Producer;
use super::status::{FatalKafkaError, KafkaStatus};
use crate::config::{KafkaSettings, MESSAGE_TIMEOUT_SLACK};

/// How often the topic's configuration is read at least, since it may be changed at any time.
const MAX_CONFIG_INTERVAL: Duration = Duration::from_secs(60);
/// In how many probes it is read once.
const PROBES_PER_CONFIG: u32 = 60;

/// The monitor of the cluster and its topic.
pub(crate) struct TopicMonitor {
    pub(crate) settings: KafkaSettings,
    pub(crate) producer: Arc<Producer>,
    pub(crate) status: KafkaStatus,
}

/// The result of one probe.
enum ProbeResult {
    Writable(FoundTopic),
    NoTopic,
    Unavailable(String),
}

/// The writable topic.
#[derive(Clone, Copy)]
struct FoundTopic {
    partitions: usize,
    /// Nil if it is unknown.
    id: Uuid,
}

/// What earlier probes found.
#[derive(Clone, Copy)]
enum KnownTopic {
    /// No topic yet.
    None,
    /// The topic with this id exists, with this configuration; its differences are logged.
    Found {
        id: Uuid,
        config: TopicConfig,
        read_at: Instant,
    },
}

impl KnownTopic {
    /// Whether the configuration of the topic with this id was checked.
    fn is_checked(self, id: Uuid) -> bool {
        matches!(self, Self::Found { id: known, .. } if ::kafka::same_topic(known, id))
    }
}

impl TopicMonitor {
    /// Probes until `shutdown`, or until Kafka fails permanently.
    ///
    /// # Errors
    /// [`FatalKafkaError`].
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), FatalKafkaError> {
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            error = self.status.failed() => Err(error),
            never = self.probe_periodically() => match never {},
        }
    }

    async fn probe_periodically(&self) -> std::convert::Infallible {
        let backoff = Backoff {
            max: self.settings.probe_interval,
            ..Backoff::default()
        };
        let mut delays = backoff.delays();
        let mut known = KnownTopic::None;
        loop {
            if let Some(error) = self.fatal_error() {
                self.status.fail(error);
            }
            let reason = match self.probe(known).await {
                ProbeResult::Writable(found) => {
                    known = self.adapt_to_config(known, found).await;
                    self.status.set_up();
                    delays = backoff.delays();
                    sleep(self.settings.probe_interval).await;
                    continue;
                }
                ProbeResult::NoTopic => {
                    known = KnownTopic::None;
                    self.create_topic().await
                }
                ProbeResult::Unavailable(reason) => reason,
            };
            self.status.set_down(&reason);
            sleep(delays.next().unwrap_or(self.settings.probe_interval)).await;
        }
    }

    /// The fatal error of the idempotent producer, after which it accepts no record.
    fn fatal_error(&self) -> Option<FatalKafkaError> {
        let (code, reason) = self.producer.fatal_error()?;
        Some(match code {
            // Without write access to any topic it gets no producer id.
            RDKafkaErrorCode::ClusterAuthorizationFailed => FatalKafkaError::Access(format!(
                "failed to write topic {}: {reason}",
                self.producer.topic()
            )),
            _ => FatalKafkaError::Producer(reason),
        })
    }

    /// Creates the topic, and returns why it is not writable yet.
    async fn create_topic(&self) -> String {
        let topic = client::topic(&self.settings, self.producer.topic());
        match topic.create(&client::connection(&self.settings)).await {
            Ok(()) => "the topic is being created".to_owned(),
            Err(error) => chain(&error),
        }
    }

    /// Reads the topic's configuration if it is not known or old, and adapts the producer to it. A topic that was deleted
    /// and created by another client may have another configuration.
    async fn adapt_to_config(&self, known: KnownTopic, found: FoundTopic) -> KnownTopic {
        let config = match known {
            KnownTopic::Found { config, read_at, .. } if known.is_checked(found.id) => {
                let interval = self.settings.probe_interval.saturating_mul(PROBES_PER_CONFIG);
                if read_at.elapsed() < interval.min(MAX_CONFIG_INTERVAL) {
                    return known;
                }
                self.read_config().await.unwrap_or(config)
            }
            _ => self.check_config(found.partitions).await,
        };
        self.limit_batches(config.max_batch_bytes).await;
        KnownTopic::Found {
            id: found.id,
            config,
            read_at: Instant::now(),
        }
    }

    /// Logs differences of the topic's configuration and returns it.
    async fn check_config(&self, partitions: usize) -> TopicConfig {
        let checked = client::topic(&self.settings, self.producer.topic())
            .check(&client::connection(&self.settings), partitions)
            .await;
        checked.unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "topic configuration not checked");
            TopicConfig::UNKNOWN
        })
    }

    /// Returns the topic's configuration; none if it can't be read now.
    async fn read_config(&self) -> Option<TopicConfig> {
        let topic = client::topic(&self.settings, self.producer.topic());
        let connection = client::connection(&self.settings);
        let read = timeout(self.settings.probe_timeout, topic.read_config(&connection));
        read.await.ok()?.ok()
    }

    /// Passes the topic's limit to the producer. Requests are rejected while the producer is replaced.
    async fn limit_batches(&self, limit: Option<usize>) {
        if limit.is_some_and(|limit| self.producer.exceeds(limit)) {
            tracing::info!(limit, "batches limited by the topic's max.message.bytes");
            self.status
                .set_down("the producer adapts to the topic's max.message.bytes");
        }
        let producer = Arc::clone(&self.producer);
        let flush_timeout = self.settings.message_timeout + MESSAGE_TIMEOUT_SLACK;
        let limited = tokio::task::spawn_blocking(move || producer.set_topic_limit(limit, flush_timeout));
        match limited.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = chain(&error), "batches not limited"),
            Err(error) => tracing::error!(error = chain(&error), "batches not limited"),
        }
    }

    /// All topics are requested until it exists. A topic that may not be described is absent then, and the attempt to create
    /// it reports the missing right.
    async fn probe(&self, known: KnownTopic) -> ProbeResult {
        let producer = Arc::clone(&self.producer);
        let timeout = self.settings.probe_timeout;
        let metadata = tokio::task::spawn_blocking(move || {
            let name = match known {
                KnownTopic::None => None,
                KnownTopic::Found { .. } => Some(producer.topic()),
            };
            let metadata = producer.metadata(name, timeout)?;
            // A broker that responds may advertise an address that does not.
            let silent = producer.unresponsive_leader(&metadata, timeout);
            Ok((metadata, producer.topic_id(timeout), silent))
        });
        match metadata.await {
            Ok(Ok((metadata, id, silent))) => match (self.evaluate(&metadata, id, known), silent) {
                (ProbeResult::Writable(_), Some(reason)) => ProbeResult::Unavailable(reason),
                (result, _) => result,
            },
            Ok(Err(error)) => ProbeResult::Unavailable(reason(&error)),
            Err(error) => ProbeResult::Unavailable(error.to_string()),
        }
    }

    fn evaluate(&self, metadata: &Metadata, id: Uuid, known: KnownTopic) -> ProbeResult {
        let topic = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == self.producer.topic());
        let Some(topic) = topic else {
            return ProbeResult::NoTopic;
        };
        let error = topic.error().map(RDKafkaErrorCode::from);
        if error == Some(RDKafkaErrorCode::UnknownTopicOrPartition) {
            return ProbeResult::NoTopic;
        }
        let min_insync = match known {
            KnownTopic::None => 1,
            KnownTopic::Found { config, .. } => config.min_insync,
        };
        match ::kafka::topic::unwritable_reason(topic, min_insync) {
            Some(reason) => ProbeResult::Unavailable(format!("{}: {reason}", self.producer.topic())),
            None => ProbeResult::Writable(FoundTopic {
                partitions: topic.partitions().len(),
                id,
            }),
        }
    }
}

fn reason(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut) => {
            "no broker responds".to_owned()
        }
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}
