//! Parses the records of a body and queues them for Kafka. An invalid record is reported with its index and reason.
//!
//! Does not wait: [`Publication::result`] waits for the acknowledgements. A canonical record is not copied.

use std::borrow::Cow;

use model::{Invalid, User, UserId};
use rdkafka::message::OwnedHeaders;
use service::failpoint;
use service::process::chain;
use thiserror::Error;

use super::delivery::{DeliveryFuture, DeliveryOutcome};
use super::result::{PublishResult, QueuedRecord, RecordError};
use crate::kafka::producer::{KafkaRecord, Producer, ProducerBatch};
use crate::limits::admission::{AdmissionPermit, Overloaded};
use crate::metrics::{PublisherMetrics, TOO_LARGE};
use crate::request::framing::{Format, FramingError};
use crate::request::metadata::RequestMetadata;
use crate::request::preference::Preference;

/// Why no record of a request was queued.
#[derive(Debug, Error)]
pub(crate) enum PublicationError {
    /// The body can't be split into records.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// The records do not fit.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

/// The limits of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLimits {
    /// The largest record, in bytes.
    pub(crate) max_record: usize,
    /// The maximum number of records.
    pub(crate) max_records: usize,
}

/// The records of a request in flight.
pub(crate) struct Publication {
    queued: Vec<QueuedRecord>,
    invalid: Vec<RecordError>,
    complete: bool,
    deliveries: DeliveryFuture,
}

/// Publishes the records of requests.
pub(crate) struct Publisher<'a> {
    pub(crate) producer: &'a Producer,
    pub(crate) metrics: &'a PublisherMetrics,
    pub(crate) limits: RequestLimits,
}

impl Publisher<'_> {
    /// Queues every valid record of `body`.
    ///
    /// # Errors
    /// Each [`PublicationError`]. No record was queued then.
    pub(crate) fn publish(
        &self,
        body: &[u8],
        format: Format,
        metadata: &RequestMetadata,
        mut permit: AdmissionPermit,
    ) -> Result<Publication, PublicationError> {
        let records = format.split(body, self.limits.max_records)?;
        permit.acquire_records(records.len())?;
        let batch = self.producer.batch(records.len(), permit);
        let mut submission = Submission::new(metadata);
        for (index, record) in records.into_iter().enumerate() {
            match self.parse(index, record) {
                Ok(valid) => submission.queue(&batch, index, &valid)?,
                Err(error) => submission.invalid.push(error),
            }
            if !submission.complete {
                break;
            }
        }
        self.metrics.count_records("rejected", submission.invalid.len());
        Ok(Publication {
            queued: submission.queued,
            invalid: submission.invalid,
            complete: submission.complete,
            deliveries: batch.close(),
        })
    }

    /// Queues a tombstone.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub(crate) fn erase(
        &self,
        id: UserId,
        metadata: &RequestMetadata,
        mut permit: AdmissionPermit,
    ) -> Result<Publication, PublicationError> {
        permit.acquire_records(1)?;
        let batch = self.producer.batch(1, permit);
        let tombstone = KafkaRecord {
            id,
            value: None,
            headers: metadata.tombstone_headers(),
        };
        batch.queue(tombstone).map_err(|_| Overloaded)?;
        Ok(Publication {
            queued: vec![QueuedRecord { index: 0, id }],
            invalid: vec![],
            complete: true,
            deliveries: batch.close(),
        })
    }

    fn parse<'a>(&self, index: usize, record: &'a [u8]) -> Result<ValidRecord<'a>, RecordError> {
        if record.len() > self.limits.max_record {
            self.count_rejected(TOO_LARGE);
            return Err(RecordError::too_large(index, self.limits.max_record));
        }
        ValidRecord::parse(record).map_err(|invalid| {
            self.count_rejected(invalid.reason().label());
            RecordError::invalid(index, &invalid)
        })
    }

    fn count_rejected(&self, reason: &str) {
        self.metrics.records_rejected.with_label_values(&[reason]).inc();
    }
}

/// A valid record in the canonical encoding; borrowed from the body if it was sent so.
struct ValidRecord<'a> {
    id: UserId,
    json: Cow<'a, [u8]>,
}

impl<'a> ValidRecord<'a> {
    fn parse(record: &'a [u8]) -> Result<Self, Invalid> {
        if let Some(user) = User::parse_canonical(record) {
            let (id, json) = (user.id(), Cow::Borrowed(record));
            return Ok(Self { id, json });
        }
        let user = User::parse_strict(record)?;
        let (id, json) = (user.id(), user.canonical_json(record));
        Ok(Self { id, json })
    }
}

/// The records of one request that were queued or rejected so far.
struct Submission<'a> {
    metadata: &'a RequestMetadata,
    headers: OwnedHeaders,
    queued: Vec<QueuedRecord>,
    invalid: Vec<RecordError>,
    complete: bool,
}

impl<'a> Submission<'a> {
    fn new(metadata: &'a RequestMetadata) -> Self {
        Self {
            metadata,
            headers: metadata.shared_headers(),
            queued: Vec::new(),
            invalid: Vec::new(),
            complete: true,
        }
    }

    /// Queues a record. If the first one fails, nothing is written; after it the request can only become incomplete.
    fn queue(
        &mut self,
        batch: &ProducerBatch<'_>,
        index: usize,
        valid: &ValidRecord<'_>,
    ) -> Result<(), Overloaded> {
        let id = valid.id;
        let record = KafkaRecord {
            id,
            value: Some(&valid.json),
            headers: self.metadata.record_headers(&self.headers, index),
        };
        match batch.queue(record) {
            Ok(()) => self.queued.push(QueuedRecord { index, id }),
            Err(error) if self.queued.is_empty() => {
                tracing::warn!(error = chain(&error), "request not queued");
                return Err(Overloaded);
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    queued = self.queued.len(),
                    "request queued in part"
                );
                self.complete = false;
            }
        }
        Ok(())
    }
}

impl Publication {
    /// Waits until every queued record is acknowledged or failed. The producer's message timeout bounds the wait.
    pub(crate) async fn result(self, preference: Preference) -> PublishResult {
        if failpoint::inject("acknowledged_before_kafka") {
            let (partition, offset) = (0, 0);
            return PublishResult {
                outcomes: vec![DeliveryOutcome::Written { partition, offset }; self.queued.len()],
                queued: self.queued,
                complete: self.complete,
                invalid: self.invalid,
                // Partition and offset are not known yet.
                preference: Preference::Minimal,
            };
        }
        // The tracker is dropped without a result only by a panic.
        let outcomes = self
            .deliveries
            .await
            .unwrap_or_else(|_| vec![DeliveryOutcome::Unknown; self.queued.len()]);
        failpoint::crash("before_answer");
        PublishResult {
            queued: self.queued,
            outcomes,
            complete: self.complete,
            invalid: self.invalid,
            preference,
        }
    }
}
