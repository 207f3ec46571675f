//! Parses the records of a body and queues them for Kafka. An invalid record is reported with its index and reason.
//!
//! Does not wait: [`Publication::result`] waits for the acknowledgements. A canonical record is not copied.

use std::borrow::Cow;

use model::{Contract, Invalid, Key};
use rdkafka::message::OwnedHeaders;
use service::failpoint;
use service::process::chain;
use thiserror::Error;

use super::delivery::{DeliveryFuture, DeliveryOutcome};
use super::result::{PublishResult, QueuedRecord, RecordError};
use crate::kafka::producer::{Producer, ProducerBatch, QueueError};
use crate::kafka::record::KafkaRecord;
use crate::limits::admission::{AdmissionPermit, Overloaded};
use crate::limits::cost::RECORD_COST;
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
    /// A tombstone's key is larger than the topic allows.
    #[error("is larger than the topic's limit of {limit} bytes")]
    KeyTooLarge {
        /// The topic's limit of a batch.
        limit: usize,
    },
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
    pub(crate) contract: &'a Contract,
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
        let records = format.split(self.contract, body, self.limits.max_records)?;
        permit.acquire_records(records.len())?;
        permit.acquire_bytes(records.len().saturating_mul(metadata.caller_header_bytes()))?;
        let batch = self.producer.batch(records.len(), permit, metadata.trace());
        let headers = metadata.shared_headers(self.contract, batch.trace());
        let mut submission = Submission::new(headers, metadata, records.len());
        for (index, record) in records.into_iter().enumerate() {
            match self.parse(index, record) {
                Ok(valid) => {
                    if let Some(limit) = submission.queue(&batch, index, valid)? {
                        self.count_rejected(TOO_LARGE);
                        let error = RecordError::too_large_for_topic(index, limit);
                        submission.invalid.push(within_memory(&batch, error));
                    }
                }
                Err(error) => submission.invalid.push(within_memory(&batch, error)),
            }
            if !submission.complete {
                break;
            }
        }
        let text_keys = submission.text_keys();
        if text_keys > 0 {
            batch.update_permit(|permit| permit.acquire_bytes_above_limit(text_keys));
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
    /// [`PublicationError::Overloaded`] and [`PublicationError::KeyTooLarge`].
    pub(crate) fn erase(
        &self,
        key: Key,
        metadata: &RequestMetadata,
        mut permit: AdmissionPermit,
    ) -> Result<Publication, PublicationError> {
        permit.acquire_records(1)?;
        let batch = self.producer.batch(1, permit, metadata.trace());
        let tombstone = KafkaRecord {
            key: &key,
            value: None,
            headers: metadata.tombstone_headers(batch.trace()),
        };
        batch.queue(tombstone).map_err(|error| match error {
            QueueError::TooLarge { limit } => PublicationError::KeyTooLarge { limit },
            QueueError::Refused(_) => Overloaded.into(),
        })?;
        Ok(Publication {
            queued: vec![QueuedRecord { index: 0, key }],
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
        ValidRecord::parse(self.contract, record).map_err(|invalid| {
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
    key: Key,
    json: Cow<'a, [u8]>,
}

impl<'a> ValidRecord<'a> {
    fn parse(contract: &Contract, json: &'a [u8]) -> Result<Self, Invalid> {
        if let Some(record) = contract.parse_canonical(json) {
            let (key, json) = (record.key(), Cow::Borrowed(json));
            return Ok(Self { key, json });
        }
        let record = contract.parse_strict(json)?;
        let (key, json) = (record.key(), record.canonical_json(json));
        Ok(Self { key, json })
    }
}

/// Acquires the memory of an error beyond the cost that its record has already. An error that does not fit is reduced to
/// its first field, whose memory counts even above the limit: the record has to be reported.
fn within_memory(batch: &ProducerBatch<'_>, mut error: RecordError) -> RecordError {
    let surplus = |error: &RecordError| error.memory().saturating_sub(RECORD_COST);
    let more = surplus(&error);
    if more > 0 && batch.update_permit(|permit| permit.acquire_bytes(more)).is_err() {
        error.keep_first();
        batch.update_permit(|permit| permit.acquire_bytes_above_limit(surplus(&error)));
    }
    error
}

/// The records of one request that were queued or rejected so far.
struct Submission<'a> {
    metadata: &'a RequestMetadata,
    /// Those that all records share; none after the last record.
    headers: Option<OwnedHeaders>,
    last: usize,
    queued: Vec<QueuedRecord>,
    invalid: Vec<RecordError>,
    complete: bool,
}

impl<'a> Submission<'a> {
    fn new(headers: OwnedHeaders, metadata: &'a RequestMetadata, records: usize) -> Self {
        Self {
            metadata,
            headers: Some(headers),
            last: records.saturating_sub(1),
            queued: Vec::new(),
            invalid: Vec::new(),
            complete: true,
        }
    }

    /// Queues a record. If the first one fails, nothing is written; after it the request can only become incomplete.
    /// Returns the topic's limit if the record is larger, which is not queued then.
    fn queue(
        &mut self,
        batch: &ProducerBatch<'_>,
        index: usize,
        valid: ValidRecord<'_>,
    ) -> Result<Option<usize>, Overloaded> {
        let key = valid.key;
        let record = KafkaRecord {
            key: &key,
            value: Some(&valid.json),
            headers: self.headers(index),
        };
        match batch.queue(record) {
            Ok(()) => self.queued.push(QueuedRecord { index, key }),
            Err(QueueError::TooLarge { limit }) => return Ok(Some(limit)),
            Err(error) if self.queued.is_empty() => {
                tracing::warn!(
                    error = chain(&error),
                    request_id = self.metadata.request_id(),
                    "request not queued"
                );
                return Err(Overloaded);
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    request_id = self.metadata.request_id(),
                    queued = self.queued.len(),
                    "request queued in part"
                );
                self.complete = false;
            }
        }
        Ok(None)
    }

    /// The headers of a record. The last record gets the shared ones themselves.
    fn headers(&mut self, index: usize) -> OwnedHeaders {
        let shared = if index == self.last {
            self.headers.take()
        } else {
            self.headers.clone()
        };
        let shared = shared.unwrap_or_default();
        self.metadata.record_headers(shared, index)
    }

    /// The bytes of text keys in the producer's queue and here. Unlike other keys they may be long.
    fn text_keys(&self) -> usize {
        let texts = self.queued.iter().map(|record| match &record.key {
            Key::Text(text) => 2 * text.len(),
            Key::Uuid(_) | Key::Int(_) | Key::Bigint(_) => 0,
        });
        texts.sum()
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
        failpoint::crash("before_response");
        PublishResult {
            queued: self.queued,
            outcomes,
            complete: self.complete,
            invalid: self.invalid,
            preference,
        }
    }
}
