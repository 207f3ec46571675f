//! Records that can't be rows: written whole, with the reason, to a topic of their own, and acknowledged there before
//! any offset moves past them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use model::headers::dead_letter as names;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rebootstrap::Answers;
use service::{Backoff, failpoint};
use thiserror::Error;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::batch::Operation;
use crate::kafka::client;
use crate::metrics::StreamerMetrics;
use crate::record::Refusal;
use crate::seldom::Seldom;
use crate::settings::KafkaSettings;

/// A dead letter that can't be written: the record would be lost.
#[derive(Debug, Error)]
#[error("write the dead letter of partition {partition}, offset {offset}")]
pub struct Undeliverable {
    partition: i32,
    offset: i64,
    #[source]
    source: KafkaError,
}

/// Writes to the dead-letter topic.
pub struct DeadLetters {
    config: ClientConfig,
    /// There from the first dead letter on: a producer that waits for one takes threads, memory, and a hundredth of a
    /// core for the polls of its thread.
    producer: OnceCell<FutureProducer>,
    answers: Answers,
    topic: String,
    source_topic: String,
    dependency: Arc<Seldom>,
    metrics: Arc<StreamerMetrics>,
}

/// The longest reason that is written; the rest is cut off.
const LONGEST_ERROR: usize = 1_024;

impl DeadLetters {
    /// Connects lazily.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(
        settings: &KafkaSettings,
        dependency: Arc<Seldom>,
        metrics: Arc<StreamerMetrics>,
    ) -> Result<Self, KafkaError> {
        let mut config = client::shared(settings);
        config
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            // The topic's own limit decides, not the client's.
            .set("message.max.bytes", "100000000")
            .set("message.timeout.ms", "10000");
        // What librdkafka refuses is refused at the start.
        config.create_native_config()?;
        Ok(Self {
            config,
            producer: OnceCell::new(),
            answers: Answers::of(&settings.brokers.join(",")),
            topic: settings.dead_letter_topic.clone(),
            source_topic: settings.topic.clone(),
            dependency,
            metrics,
        })
    }

    /// Writes all of them, for as long as it takes.
    ///
    /// # Errors
    /// [`Undeliverable`], when waiting would not help.
    pub async fn write(
        &self,
        letters: &[(&Operation, Refusal)],
        topic_id: Uuid,
    ) -> Result<(), Undeliverable> {
        try_join_all(
            letters
                .iter()
                .map(|(operation, refusal)| self.write_one(operation, refusal, topic_id)),
        )
        .await
        .map(drop)
    }

    async fn write_one(
        &self,
        operation: &Operation,
        refusal: &Refusal,
        topic_id: Uuid,
    ) -> Result<(), Undeliverable> {
        let mut delays = Backoff {
            max: Duration::from_secs(5),
            ..Backoff::default()
        }
        .delays();
        loop {
            let error = match self.send(operation, refusal, topic_id).await {
                Ok(()) => {
                    self.dependency.ready();
                    self.metrics
                        .dead_letters
                        .with_label_values(&[refusal.reason])
                        .inc();
                    return Ok(());
                }
                Err(error) => error,
            };
            if is_hopeless(&error) {
                let Operation {
                    partition, offset, ..
                } = *operation;
                return Err(Undeliverable {
                    partition,
                    offset,
                    source: error,
                });
            }
            self.metrics.retries.with_label_values(&["dead_letter"]).inc();
            self.dependency.unready(format!(
                "{}: dead letters are not acknowledged: {error}",
                self.topic
            ));
            if let Some(delay) = delays.next() {
                tokio::time::sleep(delay).await;
            }
        }
    }

    async fn send(&self, operation: &Operation, refusal: &Refusal, topic_id: Uuid) -> Result<(), KafkaError> {
        let mut record =
            FutureRecord::<[u8], [u8]>::to(&self.topic).headers(self.headers(operation, refusal, topic_id));
        record.key = operation.raw.key();
        record.payload = operation.raw.value();
        let producer = self
            .producer
            .get_or_try_init(|| async { self.config.create() })
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
        self.answers.note(producer.client(), &delivered);
        if delivered.is_ok() {
            failpoint::crash("after_dead_letter");
        }
        delivered
    }

    fn headers(&self, operation: &Operation, refusal: &Refusal, topic_id: Uuid) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new();
        for (key, value) in operation.raw.headers() {
            headers = headers.insert(Header { key, value });
        }
        let added = [
            (names::REASON, refusal.reason.to_owned()),
            (names::ERROR, refusal.error.chars().take(LONGEST_ERROR).collect()),
            (names::TOPIC, self.source_topic.clone()),
            (names::PARTITION, operation.partition.to_string()),
            (names::TOPIC_ID, topic_id.to_string()),
            (names::OFFSET, operation.offset.to_string()),
            (names::WRITE_TIMESTAMP, operation.stamp.to_string()),
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

fn is_hopeless(error: &KafkaError) -> bool {
    let too_large = matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::Fatal
        )
    );
    too_large || client::is_refused(error)
}
