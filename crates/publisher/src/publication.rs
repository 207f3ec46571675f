//! A body → records → Kafka's queue. Each record is parsed, and either queued as it was written or refused with its
//! place and reason; there is no copy of the whole. It waits for nothing: the receipt tells later what became of
//! them.

use std::borrow::Cow;

use model::{Invalid, User, UserId};
use rdkafka::message::OwnedHeaders;
use service::failpoint;
use service::process::chain;
use thiserror::Error;

use crate::admission::{NoRoom, Reservation};
use crate::deliveries::{Outcome, Receipt};
use crate::metrics::{PublisherMetrics, TOO_LARGE};
use crate::origin::Origin;
use crate::preference::Preference;
use crate::producer::{Batch, Event, Producer};
use crate::records::{Format, RecordsError};
use crate::verdict::{RecordError, Sent, Settled};

/// Nothing of a request was queued.
#[derive(Debug, Error)]
pub(crate) enum PublicationError {
    /// Its records can't be told apart.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// There is no room for them.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// The bounds of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of one record.
    pub(crate) record: usize,
    /// Records in all.
    pub(crate) records: usize,
}

/// Records on their way.
pub(crate) struct Publication {
    sent: Vec<Sent>,
    invalid: Vec<RecordError>,
    complete: bool,
    receipt: Receipt,
}

/// What is needed to send on.
pub(crate) struct Publisher<'a> {
    pub(crate) producer: &'a Producer,
    pub(crate) metrics: &'a PublisherMetrics,
    pub(crate) bounds: Bounds,
}

impl Publisher<'_> {
    /// Sends every valid record of `body`.
    ///
    /// # Errors
    /// When the records can't be told apart or there is no room for them. Nothing was queued then.
    pub(crate) fn publish(
        &self,
        body: &[u8],
        format: Format,
        origin: &Origin,
        mut reservation: Reservation,
    ) -> Result<Publication, PublicationError> {
        let records = format.split(body, self.bounds.records)?;
        reservation.take_records(records.len())?;
        let batch = self.producer.batch(records.len(), reservation);
        let mut intake = Intake::new(origin);
        for (index, record) in records.into_iter().enumerate() {
            match self.parse(index, record) {
                Ok(valid) => intake.send(&batch, index, &valid)?,
                Err(error) => intake.invalid.push(error),
            }
            if !intake.complete {
                break;
            }
        }
        self.metrics.count_records("rejected", intake.invalid.len());
        Ok(Publication {
            sent: intake.sent,
            invalid: intake.invalid,
            complete: intake.complete,
            receipt: batch.close(),
        })
    }

    /// Sends a tombstone.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(crate) fn erase(
        &self,
        id: UserId,
        origin: &Origin,
        mut reservation: Reservation,
    ) -> Result<Publication, PublicationError> {
        reservation.take_records(1)?;
        let batch = self.producer.batch(1, reservation);
        let event = Event {
            id,
            value: None,
            headers: origin.of_tombstone(),
        };
        batch.send(event).map_err(|_| NoRoom)?;
        Ok(Publication {
            sent: vec![Sent { index: 0, id }],
            invalid: vec![],
            complete: true,
            receipt: batch.close(),
        })
    }

    fn parse<'a>(&self, index: usize, record: &'a [u8]) -> Result<Valid<'a>, RecordError> {
        if record.len() > self.bounds.record {
            self.count(TOO_LARGE);
            return Err(RecordError::too_large(index, self.bounds.record));
        }
        Valid::of(record).map_err(|invalid| {
            self.count(invalid.reason().label());
            RecordError::invalid(index, &invalid)
        })
    }

    fn count(&self, reason: &str) {
        self.metrics.records_rejected.with_label_values(&[reason]).inc();
    }
}

/// A record that may be sent, as it goes to Kafka: in its own bytes, if it came in the canonical encoding.
struct Valid<'a> {
    id: UserId,
    json: Cow<'a, [u8]>,
}

impl<'a> Valid<'a> {
    fn of(record: &'a [u8]) -> Result<Self, Invalid> {
        if let Some(user) = User::parse_canonical(record) {
            let (id, json) = (user.id(), Cow::Borrowed(record));
            return Ok(Self { id, json });
        }
        let user = User::parse_strict(record)?;
        let (id, json) = (user.id(), user.canonical_json(record));
        Ok(Self { id, json })
    }
}

/// What has been sent of one request so far.
struct Intake<'a> {
    origin: &'a Origin,
    headers: OwnedHeaders,
    sent: Vec<Sent>,
    invalid: Vec<RecordError>,
    complete: bool,
}

impl<'a> Intake<'a> {
    fn new(origin: &'a Origin) -> Self {
        Self {
            origin,
            headers: origin.of_records(),
            sent: Vec::new(),
            invalid: Vec::new(),
            complete: true,
        }
    }

    /// If the producer does not take the first record, nothing was written; later, there is no way back.
    fn send(&mut self, batch: &Batch<'_>, index: usize, valid: &Valid<'_>) -> Result<(), NoRoom> {
        let id = valid.id;
        let event = Event {
            id,
            value: Some(&valid.json),
            headers: self.origin.of_record(&self.headers, index),
        };
        match batch.send(event) {
            Ok(()) => self.sent.push(Sent { index, id }),
            Err(error) if self.sent.is_empty() => {
                tracing::warn!(error = chain(&error), "request not queued");
                return Err(NoRoom);
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    queued = self.sent.len(),
                    "request broken off"
                );
                self.complete = false;
            }
        }
        Ok(())
    }
}

impl Publication {
    /// Waits for Kafka's last word. There is a last word: the producer gives up by itself.
    pub(crate) async fn settled(self, preference: Preference) -> Settled {
        if failpoint::inject("acknowledged_before_kafka") {
            let (partition, offset) = (0, 0);
            return Settled {
                outcomes: vec![Outcome::Written { partition, offset }; self.sent.len()],
                sent: self.sent,
                complete: self.complete,
                invalid: self.invalid,
                // Nobody knows where the records will lie, or whether they will.
                preference: Preference::Counts,
            };
        }
        // Without the sender there is nobody left to know.
        let outcomes = self
            .receipt
            .await
            .unwrap_or_else(|_| vec![Outcome::Unknown; self.sent.len()]);
        failpoint::crash("before_answer");
        Settled {
            sent: self.sent,
            outcomes,
            complete: self.complete,
            invalid: self.invalid,
            preference,
        }
    }
}
