//! The one producer: idempotent, acknowledged by all replicas. It queues records and reports what became of them; it
//! knows no HTTP, waits for no acknowledgement and sends nothing twice by itself.

use std::sync::Arc;
use std::time::Duration;

use model::UserId;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message as _, OwnedHeaders};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};
use rebootstrap::Answers;
use thiserror::Error;

use crate::admission::Reservation;
use crate::client::{self, ClientError};
use crate::deliveries::{Deliveries, Outcome, Receipt, Ticket};
use crate::link::KafkaLink;
use crate::metrics::PublisherMetrics;
use crate::settings::{KafkaSettings, LimitSettings};

/// The producer did not take a record into its queue. Nothing of it was written.
#[derive(Debug, Error)]
#[error("queue a record")]
pub struct NotQueued(#[source] pub KafkaError);

/// The producer could not be emptied in time; what it held may or may not be written.
#[derive(Debug, Error)]
#[error("flush the producer, which still holds {left} records or reports")]
pub struct NotFlushed {
    /// How many records had no acknowledgement, or acknowledgements had not been read.
    pub left: i32,
    /// librdkafka's answer.
    #[source]
    pub source: KafkaError,
}

/// The producer of the topic. Shared by all requests.
pub struct Producer {
    inner: ThreadedProducer<Reports>,
    answers: Answers,
    topic: String,
    metrics: Arc<PublisherMetrics>,
}

/// What happened to a user, for the topic. Without a value it is a tombstone.
pub(crate) struct Event<'a> {
    pub(crate) id: UserId,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: OwnedHeaders,
}

/// The records of one request on their way into the queue.
pub(crate) struct Batch<'a> {
    producer: &'a Producer,
    deliveries: Deliveries,
    receipt: Receipt,
}

impl Producer {
    /// Creates it. It connects by itself, in its own time.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(
        settings: &KafkaSettings,
        limits: &LimitSettings,
        metrics: Arc<PublisherMetrics>,
        link: KafkaLink,
    ) -> Result<Self, ClientError> {
        let reports = Reports {
            link,
            metrics: Arc::clone(&metrics),
        };
        Ok(Self {
            inner: client::producer(settings, limits).create_with_context(reports)?,
            answers: Answers::of(&settings.brokers.join(",")),
            topic: settings.topic.clone(),
            metrics,
        })
    }

    /// Begins a batch of at most `capacity` records.
    pub(crate) fn batch(&self, capacity: usize, reservation: Reservation) -> Batch<'_> {
        let (deliveries, receipt) = Deliveries::expect(capacity, reservation, Arc::clone(&self.metrics));
        Batch {
            producer: self,
            deliveries,
            receipt,
        }
    }

    /// Asks a broker about the topic, or about all topics. Blocks up to `timeout`. Who asks again and again keeps the producer
    /// from forgetting for good where its brokers are.
    pub(crate) fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Metadata, KafkaError> {
        let client = self.inner.client();
        let metadata = client.fetch_metadata(topic, timeout);
        self.answers.note(client, &metadata);
        metadata
    }

    /// What has ended the producer, if something has.
    pub(crate) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.inner.client().fatal_error()
    }

    /// Waits until all records are settled. Blocks up to `timeout`.
    ///
    /// # Errors
    /// When some are not.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), NotFlushed> {
        self.inner.flush(timeout).map_err(|source| NotFlushed {
            left: self.inner.in_flight_count(),
            source,
        })
    }
}

impl Batch<'_> {
    /// Puts a record into the producer's queue. One that could be taken in no case counts as refused.
    ///
    /// # Errors
    /// When it isn't taken now; the records before it are on their way.
    pub(crate) fn send(&self, event: Event<'_>) -> Result<(), NotQueued> {
        let ticket = Box::new(self.deliveries.ticket());
        let key = event.id.text();
        let mut record = BaseRecord::with_opaque_to(&self.producer.topic, ticket)
            .key(key.as_bytes())
            .headers(event.headers);
        if let Some(value) = event.value {
            record = record.payload(value);
        }
        let Err((error, record)) = self.producer.inner.send(record) else {
            return Ok(());
        };
        match outcome_of(&error) {
            refused @ Outcome::Refused(_) => record.delivery_opaque.settle(refused),
            _ => {
                self.deliveries.take_back(&record.delivery_opaque);
                return Err(NotQueued(error));
            }
        }
        Ok(())
    }

    /// Ends the batch; what became of it comes out of the receipt.
    pub(crate) fn close(self) -> Receipt {
        self.deliveries.close();
        self.receipt
    }
}

/// What librdkafka reports, from its own threads.
struct Reports {
    link: KafkaLink,
    metrics: Arc<PublisherMetrics>,
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication) => self.link.credentials_refused(reason),
            // Says how many brokers are down; another event has said why.
            Some(RDKafkaErrorCode::AllBrokersDown) => {}
            _ => self.link.note(reason),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.metrics.show_statistics(&statistics);
    }

    /// Outages are told by the watch, once and with their end; librdkafka repeats each of its tries.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, message);
            }
            _ => tracing::debug!(target: "librdkafka", facility, message),
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        ticket.settle(match result {
            Ok(message) => Outcome::Written {
                partition: message.partition(),
                offset: message.offset(),
            },
            Err((error, _)) => outcome_of(error),
        });
    }
}

fn outcome_of(error: &KafkaError) -> Outcome {
    error.rdkafka_error_code().map_or(Outcome::Unknown, Outcome::from)
}
