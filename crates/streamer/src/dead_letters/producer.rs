//! Writes rejected records to the dead-letter topic, with the original bytes and the reason.
//!
//! No offset moves past a dead letter before the brokers have acknowledged it.

use std::sync::Arc;
use std::time::Duration;

use ::kafka::{ClientEvents, RebootstrapMonitor};
use futures::future::try_join_all;
use model::headers::dead_letter as names;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
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
#[error("failed to write the dead letter of partition {partition}, offset {offset}")]
pub struct DeadLetterError {
    partition: i32,
    offset: i64,
    #[source]
    source: KafkaError,
}

/// Writes to the dead-letter topic.
pub struct DeadLetterProducer {
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
        let mut config = client::config(settings);
        config
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            // The limit of the topic applies, not the client's.
            .set("message.max.bytes", "100000000")
            .set("message.timeout.ms", "10000");
        // A rejected configuration must fail at the start.
        config.create_native_config()?;
        Ok(Self {
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

    /// Writes all dead letters, without a time limit.
    ///
    /// # Errors
    /// [`DeadLetterError`], when a retry would not help.
    pub async fn write(
        &self,
        letters: &[(&Operation, Rejection)],
        topic_id: Uuid,
    ) -> Result<(), DeadLetterError> {
        try_join_all(
            letters
                .iter()
                .map(|(operation, rejection)| self.write_one(operation, rejection, topic_id)),
        )
        .await
        .map(drop)
    }

    async fn write_one(
        &self,
        operation: &Operation,
        rejection: &Rejection,
        topic_id: Uuid,
    ) -> Result<(), DeadLetterError> {
        let mut delays = Backoff {
            max: Duration::from_secs(5),
            ..Backoff::default()
        }
        .delays();
        loop {
            let error = match self.send(operation, rejection, topic_id).await {
                Ok(()) => {
                    self.dependency.ready();
                    self.metrics
                        .dead_letters
                        .with_label_values(&[rejection.reason])
                        .inc();
                    self.log
                        .written(operation.partition, operation.offset, rejection.reason);
                    return Ok(());
                }
                Err(error) => error,
            };
            if is_fatal(&error) {
                let Operation {
                    partition, offset, ..
                } = *operation;
                return Err(DeadLetterError {
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
    ) -> Result<(), KafkaError> {
        let mut record =
            FutureRecord::<[u8], [u8]>::to(&self.topic).headers(self.headers(operation, rejection, topic_id));
        record.key = operation.raw.key();
        record.payload = operation.raw.value();
        let producer = self
            .producer
            .get_or_try_init(|| async { self.config.create_with_context(ClientEvents::default()) })
            .await?;
        let delivery = producer.send_result(record).map_err(|(error, _)| error)?;
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

    fn headers(&self, operation: &Operation, rejection: &Rejection, topic_id: Uuid) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new();
        for (key, value) in operation.raw.headers() {
            headers = headers.insert(Header { key, value });
        }
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
        added.iter().fold(headers, |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        })
    }
}

fn is_fatal(error: &KafkaError) -> bool {
    let too_large = matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::Fatal
        )
    );
    too_large || ::kafka::is_rejected(error)
}
