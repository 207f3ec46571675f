//! Writes rejected records to the dead-letter topic, with the original bytes and the reason.
//!
//! No offset moves past a dead letter before the brokers have acknowledged it.

use std::sync::Arc;
use std::time::Duration;

use ::kafka::headers::insert;
use ::kafka::{ClientEvents, Connection, RebootstrapMonitor};
use futures::future::try_join_all;
use model::headers::dead_letter as names;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use service::{Backoff, failpoint};
use thiserror::Error;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::config::KafkaSettings;
use crate::consumer::client;
use crate::dead_letters::log::DeadLetterLog;
use crate::health::lazy_dependency::LazyDependency;
use crate::metrics::StreamerMetrics;
use crate::pipeline::batch_builder::Operation;
use crate::pipeline::consumed_record::Rejection;

/// A dead letter can't be written, so the record would be lost.
#[derive(Debug, Error)]
#[error("failed to write to topic {topic} the dead letter of partition {partition}, offset {offset}")]
pub struct DeadLetterError {
    topic: String,
    partition: i32,
    offset: i64,
    #[source]
    source: KafkaError,
}

impl DeadLetterError {
    /// Whether Kafka rejects the credentials or the permissions, which only the operator can fix.
    pub fn is_rejected(&self) -> bool {
        ::kafka::is_rejected(&self.source)
    }
}

/// A dead letter that its topic does not accept, not even without the record's content. Only its partition has to wait.
#[derive(Debug)]
pub struct RefusedDeadLetter {
    /// The record's partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// The dead-letter topic.
    pub topic: String,
    /// Kafka's error.
    pub error: String,
}

/// Writes to the dead-letter topic.
pub struct DeadLetterProducer {
    connection: Connection,
    config: ClientConfig,
    /// Created with the first dead letter. An idle producer costs threads, memory and about 1 % of a core.
    producer: OnceCell<FutureProducer<ClientEvents>>,
    rebootstrap: RebootstrapMonitor,
    topic: String,
    source_topic: String,
    dependency: Arc<LazyDependency>,
    log: Arc<DeadLetterLog>,
    metrics: Arc<StreamerMetrics>,
}

/// Longer error messages are truncated.
const MAX_ERROR_CHARS: usize = 1_024;

/// The parts of the record that a dead letter holds, beside the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LetterContent {
    Whole,
    WithoutValue,
    /// Without key, headers and value.
    ReasonOnly,
}

impl LetterContent {
    /// Returns the next smaller content.
    fn smaller(self) -> Option<Self> {
        match self {
            Self::Whole => Some(Self::WithoutValue),
            Self::WithoutValue => Some(Self::ReasonOnly),
            Self::ReasonOnly => None,
        }
    }

    /// The value of the header [`names::OMITTED`].
    fn omitted(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::WithoutValue => Some("value"),
            Self::ReasonOnly => Some("key, headers, value"),
        }
    }
}

impl DeadLetterProducer {
    /// Creates a producer that connects with the first dead letter.
    ///
    /// # Errors
    /// When librdkafka rejects the configuration.
    pub fn new(
        settings: &KafkaSettings,
        dependency: Arc<LazyDependency>,
        log: Arc<DeadLetterLog>,
        metrics: Arc<StreamerMetrics>,
    ) -> Result<Self, KafkaError> {
        let connection = client::connection(settings);
        let mut config = connection.config();
        config
            .set("enable.idempotence", "true")
            // The best of Kafka's codecs, so that a dead letter is about as large as its record was.
            .set("compression.type", "zstd")
            .set("partitioner", "murmur2_random")
            // The limit of the topic applies, not the client's.
            .set("message.max.bytes", "100000000")
            // The topic's limit is for a batch. A letter that is larger than this is a batch of its own, so a batch is only
            // refused for a letter that does not fit alone.
            .set("batch.size", "16384")
            .set("message.timeout.ms", "10000");
        // A rejected configuration must fail at the start.
        config.create_native_config()?;
        Ok(Self {
            connection,
            config,
            producer: OnceCell::new(),
            rebootstrap: RebootstrapMonitor::new(&settings.brokers.join(",")),
            topic: settings.dead_letter_topic().to_owned(),
            source_topic: settings.topic().to_owned(),
            dependency,
            log,
            metrics,
        })
    }

    /// Writes all dead letters, without a time limit. Returns those that the topic refuses.
    ///
    /// # Errors
    /// [`DeadLetterError`], when a retry would help no partition.
    pub async fn write(
        &self,
        letters: &[(&Operation, Rejection)],
        topic_id: Uuid,
    ) -> Result<Vec<RefusedDeadLetter>, DeadLetterError> {
        let written = letters
            .iter()
            .map(|(operation, rejection)| self.write_one(operation, rejection, topic_id));
        let refused = try_join_all(written).await?;
        Ok(refused.into_iter().flatten().collect())
    }

    async fn write_one(
        &self,
        operation: &Operation,
        rejection: &Rejection,
        topic_id: Uuid,
    ) -> Result<Option<RefusedDeadLetter>, DeadLetterError> {
        let mut delays = Backoff {
            max: Duration::from_secs(5),
            ..Backoff::default()
        }
        .delays();
        let mut content = LetterContent::Whole;
        loop {
            let error = match self.send(operation, rejection, topic_id, content).await {
                Ok(()) => {
                    self.dependency.ready();
                    self.metrics
                        .dead_letters
                        .with_label_values(&[rejection.reason])
                        .inc();
                    self.log
                        .written(operation.partition, operation.offset, rejection.reason);
                    return Ok(None);
                }
                Err(error) => error,
            };
            let Operation {
                partition, offset, ..
            } = *operation;
            if let Some(smaller) = content.smaller().filter(|_| is_too_large(&error)) {
                content = smaller;
                let omitted = content.omitted();
                tracing::warn!(
                    partition,
                    offset,
                    omitted,
                    "dead letter does not fit into kafka.dead_letter_topic: raise its max.message.bytes"
                );
                continue;
            }
            if is_refused(&error) {
                return Ok(Some(RefusedDeadLetter {
                    topic: self.topic.clone(),
                    partition,
                    offset,
                    error: error.to_string(),
                }));
            }
            if is_fatal(&error) {
                return Err(DeadLetterError {
                    topic: self.topic.clone(),
                    partition,
                    offset,
                    source: error,
                });
            }
            self.metrics.retries.with_label_values(&["dead_letter"]).inc();
            self.dependency.unready(format!(
                "kafka.dead_letter_topic {} does not acknowledge dead letters: {error}",
                self.topic
            ));
            if let Some(delay) = delays.next() {
                tokio::time::sleep(delay).await;
            }
        }
    }

    async fn send(
        &self,
        operation: &Operation,
        rejection: &Rejection,
        topic_id: Uuid,
        content: LetterContent,
    ) -> Result<(), KafkaError> {
        let headers = self.headers(operation, rejection, topic_id, content);
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
        let raw = &operation.raw;
        record.key = raw.key().filter(|_| content != LetterContent::ReasonOnly);
        record.payload = raw.value().filter(|_| content == LetterContent::Whole);
        let producer = self
            .producer
            .get_or_try_init(|| async {
                self.config
                    .create_with_context(ClientEvents::new(&self.connection))
            })
            .await?;
        let delivery =
            producer
                .send_result(record)
                .map_err(|(error, _)| match producer.client().fatal_error() {
                    // A client without the right to write any topic fails for good, and only its first error has the cause.
                    Some((code, _)) => KafkaError::MessageProduction(code),
                    None => error,
                })?;
        if failpoint::inject("dead_letter_not_awaited") {
            return Ok(());
        }
        let delivered = match delivery.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(error),
            Err(_) => Err(KafkaError::Canceled),
        };
        self.rebootstrap.observe(producer.client(), &delivered);
        if delivered.is_ok() {
            failpoint::crash("after_dead_letter");
        }
        delivered
    }

    fn headers(
        &self,
        operation: &Operation,
        rejection: &Rejection,
        topic_id: Uuid,
        content: LetterContent,
    ) -> OwnedHeaders {
        let original = operation
            .raw
            .headers()
            .filter(|_| content != LetterContent::ReasonOnly);
        let headers = original.fold(OwnedHeaders::new(), insert);
        let omitted = content
            .omitted()
            .map(|omitted| (names::OMITTED, omitted.to_owned()));
        let added = [
            (names::REASON, rejection.reason.to_owned()),
            (
                names::ERROR,
                rejection.error.chars().take(MAX_ERROR_CHARS).collect(),
            ),
            (names::TOPIC, self.source_topic.clone()),
            (names::PARTITION, operation.partition.to_string()),
            (names::TOPIC_ID, topic_id.to_string()),
            (names::OFFSET, operation.offset.to_string()),
            (names::WRITE_TIMESTAMP, operation.write_timestamp.to_string()),
            (names::AT, jiff::Timestamp::now().to_string()),
        ];
        added
            .into_iter()
            .chain(omitted)
            .fold(headers, |headers, (name, value)| {
                insert(headers, (name.as_bytes(), Some(value.as_bytes())))
            })
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize)
    )
}

/// Whether the topic accepts no such record: it is too large, or has no key while the topic is compacted.
fn is_refused(error: &KafkaError) -> bool {
    is_too_large(error) || error.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidRecord)
}

fn is_fatal(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) || ::kafka::is_rejected(error)
}
