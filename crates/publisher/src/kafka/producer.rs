//! The Kafka producer: idempotent, `acks=all`. Queues records and tracks their delivery.
//!
//! Does not wait for acknowledgements and does not retry; librdkafka does.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use ::kafka::{ProducerEvents, RebootstrapMonitor};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use service::process::chain;
use service::trace::{Kind, Span, TraceContext, Tracer};
use thiserror::Error;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::callbacks::ProducerCallbacks;
use super::client::{self, ClientError};
use super::record::KafkaRecord;
use super::status::KafkaStatus;
use crate::config::{KafkaSettings, LimitSettings};
use crate::limits::admission::AdmissionPermit;
use crate::metrics::PublisherMetrics;
use crate::publish::delivery::{DeliveryFuture, DeliveryOutcome, DeliveryTracker};

/// The producer did not queue a record; it is not written.
#[derive(Debug, Error)]
pub enum QueueError {
    /// The record alone is larger than a batch of the topic may be.
    #[error("the record is larger than the topic's limit of {limit} bytes")]
    TooLarge {
        /// The topic's `max.message.bytes`.
        limit: usize,
    },
    /// librdkafka does not accept it now.
    #[error("failed to queue a record")]
    Refused(#[source] KafkaError),
}

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

/// librdkafka's producer, and the task that handles its delivery reports.
struct Inner {
    producer: Arc<BaseProducer<ProducerCallbacks>>,
    _events: AbortOnDropHandle<()>,
}

impl Deref for Inner {
    type Target = BaseProducer<ProducerCallbacks>;

    fn deref(&self) -> &Self::Target {
        &self.producer
    }
}

/// The producer of the topic, shared by all requests.
pub struct Producer {
    /// Replaced when the topic's limit falls below `batch_size`. A batch holds the lock until its records are queued.
    inner: RwLock<Inner>,
    /// The largest batch of `inner`, in bytes.
    batch_size: AtomicUsize,
    /// The topic's `max.message.bytes`.
    topic_limit: AtomicUsize,
    rebootstrap: RebootstrapMonitor,
    topic: String,
    settings: KafkaSettings,
    limits: LimitSettings,
    metrics: Arc<PublisherMetrics>,
    status: KafkaStatus,
    tracer: Tracer,
}

/// The records of one request while they are queued.
pub(crate) struct ProducerBatch<'a> {
    inner: RwLockReadGuard<'a, Inner>,
    producer: &'a Producer,
    tracker: DeliveryTracker,
    future: DeliveryFuture,
    trace: Option<TraceContext>,
}

impl Producer {
    /// Creates the producer, in a Tokio runtime. It connects in the background.
    ///
    /// # Errors
    /// [`ClientError`] if librdkafka rejects the configuration, or there are no more file descriptors.
    pub fn new(
        settings: &KafkaSettings,
        topic: String,
        limits: &LimitSettings,
        metrics: Arc<PublisherMetrics>,
        status: KafkaStatus,
        tracer: Tracer,
    ) -> Result<Self, ClientError> {
        let batch_size = client::batch_size(settings);
        Ok(Self {
            inner: RwLock::new(create(settings, limits, batch_size, &metrics, &status)?),
            batch_size: AtomicUsize::new(batch_size),
            topic_limit: AtomicUsize::new(usize::MAX),
            rebootstrap: RebootstrapMonitor::new(&settings.brokers.join(",")),
            topic,
            settings: settings.clone(),
            limits: limits.clone(),
            metrics,
            status,
            tracer,
        })
    }

    /// The name of the topic.
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Begins a batch of at most `capacity` records, whose span is below `trace`.
    pub(crate) fn batch(
        &self,
        capacity: usize,
        permit: AdmissionPermit,
        trace: Option<TraceContext>,
    ) -> ProducerBatch<'_> {
        let span = trace.and_then(|parent| self.tracer.child("produce", Kind::Producer, &parent));
        let span = span.map(|mut span| {
            span.set("messaging.system", "kafka");
            span.set("messaging.destination.name", self.topic.as_str());
            span
        });
        // With tracing off, the caller's span is the parent of what reads the records.
        let trace = span.as_ref().map(Span::context).or(trace);
        let (tracker, future) = DeliveryTracker::new(capacity, permit, Arc::clone(&self.metrics), span);
        ProducerBatch {
            trace,
            inner: self.inner(),
            producer: self,
            tracker,
            future,
        }
    }

    /// Requests the metadata of the topic, or of all topics. Blocks up to `timeout`. Repeated calls also restore the
    /// producer's bootstrap servers after it has lost all brokers.
    pub(crate) fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Metadata, KafkaError> {
        let inner = self.inner();
        let client = inner.client();
        let metadata = client.fetch_metadata(topic, timeout);
        self.rebootstrap.observe(client, &metadata);
        metadata
    }

    /// Returns the id of the topic, which is nil if it is unknown. Blocks up to `timeout`.
    pub(crate) fn topic_id(&self, timeout: Duration) -> Uuid {
        ::kafka::topic::topic_id::topic_id(self.inner().client(), &self.topic, timeout).unwrap_or_default()
    }

    /// Returns why a leader of the topic can't be reached, if one does not respond. Blocks up to `timeout`.
    pub(crate) fn unresponsive_leader(&self, metadata: &Metadata, timeout: Duration) -> Option<String> {
        ::kafka::metadata::leaders::unresponsive_leader(self.inner().client(), metadata, &self.topic, timeout)
    }

    /// The fatal error of the producer, if there is one.
    pub(crate) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.inner().client().fatal_error()
    }

    /// Whether batches can be larger than `limit` bytes.
    pub(crate) fn exceeds(&self, limit: usize) -> bool {
        self.batch_size.load(Ordering::Acquire) > limit
    }

    /// Sets the topic's limit of a batch, in bytes; none if it is not known. A batch above the limit would be refused as
    /// a whole. So if batches can be larger, this replaces the producer, and waits until all records of the previous one
    /// are acknowledged or failed, up to `timeout`.
    ///
    /// # Errors
    /// [`ClientError`] if librdkafka rejects the configuration.
    pub(crate) fn set_topic_limit(&self, limit: Option<usize>, timeout: Duration) -> Result<(), ClientError> {
        let limit = limit.unwrap_or(usize::MAX);
        self.topic_limit.store(limit, Ordering::Release);
        if !self.exceeds(limit) {
            return Ok(());
        }
        let created = create(&self.settings, &self.limits, limit, &self.metrics, &self.status)?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let previous = std::mem::replace(&mut *inner, created);
        self.batch_size.store(limit, Ordering::Release);
        drop(inner);
        if let Err(error) = flush(&previous, timeout) {
            tracing::warn!(
                error = chain(&error),
                "records of the previous producer not acknowledged"
            );
        }
        Ok(())
    }

    /// Waits until all records are acknowledged or failed. Blocks up to `timeout`.
    ///
    /// # Errors
    /// [`FlushError`] if some are not.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        flush(&self.inner(), timeout)
    }

    fn inner(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn create(
    settings: &KafkaSettings,
    limits: &LimitSettings,
    batch_size: usize,
    metrics: &Arc<PublisherMetrics>,
    status: &KafkaStatus,
) -> Result<Inner, ClientError> {
    let callbacks = ProducerCallbacks {
        status: status.clone(),
        metrics: Arc::clone(metrics),
        tokens: client::connection(settings).tokens(),
    };
    let producer = client::producer(settings, limits, batch_size).create_with_context(callbacks)?;
    let producer = Arc::new(producer);
    let events = ProducerEvents::new(Arc::clone(&producer)).map_err(ClientError::Events)?;
    let events = tokio::spawn(async move {
        let Err(error) = events.handle().await;
        tracing::error!(error = chain(&error), "delivery reports are not handled any more");
    });
    Ok(Inner {
        producer,
        _events: AbortOnDropHandle::new(events),
    })
}

fn flush(producer: &Inner, timeout: Duration) -> Result<(), FlushError> {
    producer.flush(timeout).map_err(|source| FlushError {
        left: producer.in_flight_count(),
        source,
    })
}

impl ProducerBatch<'_> {
    /// The span that writes the records, for their headers.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// Queues a record. A record that librdkafka refuses permanently counts as queued and refused.
    ///
    /// # Errors
    /// [`QueueError`]. Records queued before it are in flight.
    pub(crate) fn queue(&self, record: KafkaRecord<'_>) -> Result<(), QueueError> {
        let limit = self.producer.topic_limit.load(Ordering::Acquire);
        if !record.fits(limit) {
            return Err(QueueError::TooLarge { limit });
        }
        let token = Box::new(self.tracker.token());
        let key = record.key.text();
        let mut message = BaseRecord::with_opaque_to(&self.producer.topic, token)
            .key(key.as_bytes())
            .headers(record.headers);
        if let Some(value) = record.value {
            message = message.payload(value);
        }
        let Err((error, message)) = self.inner.send(message) else {
            return Ok(());
        };
        match DeliveryOutcome::from(&error) {
            refused @ DeliveryOutcome::Refused(_) => message.delivery_opaque.complete(refused),
            _ => {
                self.tracker.revoke(&message.delivery_opaque);
                return Err(QueueError::Refused(error));
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
