//! The Kafka producer: idempotent, `acks=all`. Queues records and tracks their delivery.
//!
//! Does not wait for acknowledgements and does not retry; librdkafka does.

use std::sync::Arc;
use std::time::Duration;

use ::kafka::RebootstrapMonitor;
use model::Key;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use thiserror::Error;
use uuid::Uuid;

use super::callbacks::ProducerCallbacks;
use super::client::{self, ClientError};
use super::status::KafkaStatus;
use crate::config::{KafkaSettings, LimitSettings};
use crate::limits::admission::AdmissionPermit;
use crate::metrics::PublisherMetrics;
use crate::publish::delivery::{DeliveryFuture, DeliveryOutcome, DeliveryTracker};

/// The producer did not queue a record; it is not written.
#[derive(Debug, Error)]
#[error("failed to queue a record")]
pub struct QueueError(#[source] pub KafkaError);

/// The producer was not flushed in time; its records may or may not be written.
#[derive(Debug, Error)]
#[error("failed to flush the producer, {left} records or delivery reports left")]
pub struct FlushError {
    /// The records without acknowledgement and the unread delivery reports.
    pub left: i32,
    /// The error of librdkafka.
    #[source]
    pub source: KafkaError,
}

/// The producer of the topic, shared by all requests.
pub struct Producer {
    inner: ThreadedProducer<ProducerCallbacks>,
    rebootstrap: RebootstrapMonitor,
    topic: String,
    metrics: Arc<PublisherMetrics>,
}

/// A record for the topic; a tombstone if it has no value.
pub(crate) struct KafkaRecord<'a> {
    pub(crate) key: &'a Key,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: OwnedHeaders,
}

/// The records of one request while they are queued.
pub(crate) struct ProducerBatch<'a> {
    producer: &'a Producer,
    tracker: DeliveryTracker,
    future: DeliveryFuture,
}

impl Producer {
    /// Creates the producer. It connects in the background.
    ///
    /// # Errors
    /// [`ClientError`] if librdkafka rejects the configuration.
    pub fn new(
        settings: &KafkaSettings,
        topic: String,
        limits: &LimitSettings,
        metrics: Arc<PublisherMetrics>,
        status: KafkaStatus,
    ) -> Result<Self, ClientError> {
        let callbacks = ProducerCallbacks {
            status,
            metrics: Arc::clone(&metrics),
        };
        Ok(Self {
            inner: client::producer(settings, limits).create_with_context(callbacks)?,
            rebootstrap: RebootstrapMonitor::new(&settings.brokers.join(",")),
            topic,
            metrics,
        })
    }

    /// The name of the topic.
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Begins a batch of at most `capacity` records.
    pub(crate) fn batch(&self, capacity: usize, permit: AdmissionPermit) -> ProducerBatch<'_> {
        let (tracker, future) = DeliveryTracker::new(capacity, permit, Arc::clone(&self.metrics));
        ProducerBatch {
            producer: self,
            tracker,
            future,
        }
    }

    /// Requests the metadata of the topic, or of all topics. Blocks up to `timeout`. Repeated calls also restore the
    /// producer's bootstrap servers after it has lost all brokers.
    pub(crate) fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Metadata, KafkaError> {
        let client = self.inner.client();
        let metadata = client.fetch_metadata(topic, timeout);
        self.rebootstrap.observe(client, &metadata);
        metadata
    }

    /// Returns the id of the topic, which is nil if it is unknown. Blocks up to `timeout`.
    pub(crate) fn topic_id(&self, timeout: Duration) -> Uuid {
        ::kafka::topic_id::topic_id(self.inner.client(), &self.topic, timeout).unwrap_or_default()
    }

    /// Returns why a leader of the topic can't be reached, if one does not respond. Blocks up to `timeout`.
    pub(crate) fn unresponsive_leader(&self, metadata: &Metadata, timeout: Duration) -> Option<String> {
        ::kafka::leaders::unresponsive_leader(self.inner.client(), metadata, &self.topic, timeout)
    }

    /// The fatal error of the producer, if there is one.
    pub(crate) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.inner.client().fatal_error()
    }

    /// Waits until all records are acknowledged or failed. Blocks up to `timeout`.
    ///
    /// # Errors
    /// [`FlushError`] if some are not.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.inner.flush(timeout).map_err(|source| FlushError {
            left: self.inner.in_flight_count(),
            source,
        })
    }
}

impl ProducerBatch<'_> {
    /// Queues a record. A record that librdkafka refuses permanently counts as queued and refused.
    ///
    /// # Errors
    /// [`QueueError`] if librdkafka does not accept it now. Records queued before it are in flight.
    pub(crate) fn queue(&self, record: KafkaRecord<'_>) -> Result<(), QueueError> {
        let token = Box::new(self.tracker.token());
        let key = record.key.text();
        let mut message = BaseRecord::with_opaque_to(&self.producer.topic, token)
            .key(key.as_bytes())
            .headers(record.headers);
        if let Some(value) = record.value {
            message = message.payload(value);
        }
        let Err((error, message)) = self.producer.inner.send(message) else {
            return Ok(());
        };
        match DeliveryOutcome::from(&error) {
            refused @ DeliveryOutcome::Refused(_) => message.delivery_opaque.complete(refused),
            _ => {
                self.tracker.revoke(&message.delivery_opaque);
                return Err(QueueError(error));
            }
        }
        Ok(())
    }

    /// Changes what the batch holds of the limits.
    pub(crate) fn update_permit<T>(&self, change: impl FnOnce(&mut AdmissionPermit) -> T) -> T {
        self.tracker.update_permit(change)
    }

    /// Ends the batch and returns the future of its outcomes.
    pub(crate) fn close(self) -> DeliveryFuture {
        self.tracker.close();
        self.future
    }
}
