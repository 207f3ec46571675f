//! The result of publishing a request: which records are in Kafka, which are not and why, and which are unknown.
//!
//! Knows no HTTP; `response` maps a result to a status.

use model::{Invalid, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use super::delivery::DeliveryOutcome;
use crate::request::preference::Preference;

/// A record that is not in Kafka, and why. Quotes no value of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecordError {
    /// The record's index in the request, from 0.
    pub index: usize,
    /// Its id, if it could be parsed.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub id: Option<UserId>,
    /// The invalid field; none if the record as a whole is invalid.
    pub field: Option<String>,
    /// The rule that it violates.
    pub reason: String,
}

impl RecordError {
    /// The record at `index` is invalid.
    pub fn invalid(index: usize, invalid: &Invalid) -> Self {
        Self {
            index,
            id: invalid.id(),
            field: invalid.field_name().map(ToString::to_string),
            reason: invalid.reason().to_string(),
        }
    }

    /// The record at `index` has more than `limit` bytes.
    pub fn too_large(index: usize, limit: usize) -> Self {
        Self {
            index,
            id: None,
            field: None,
            reason: format!("is larger than {limit} bytes"),
        }
    }
}

/// A record in the producer's queue.
#[derive(Clone, Copy, Debug)]
pub struct QueuedRecord {
    /// The record's index in the request, from 0.
    pub index: usize,
    /// Its id.
    pub id: UserId,
}

/// The partition and offset of a record in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecordMetadata {
    /// The record's index in the request, from 0.
    pub index: usize,
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: UserId,
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
}

/// The result of a request, once each record is acknowledged or failed.
#[derive(Debug)]
pub struct PublishResult {
    /// The valid records that were queued, in order.
    pub queued: Vec<QueuedRecord>,
    /// The outcome of each queued record.
    pub outcomes: Vec<DeliveryOutcome>,
    /// Whether all valid records were queued; if not, those after the last queued one were not written.
    pub complete: bool,
    /// The invalid records, in order.
    pub invalid: Vec<RecordError>,
    /// How much the caller wants in the response.
    pub preference: Preference,
}

/// The body of responses 200, 207 and 422, and a part of 502 and 504.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counts {
    /// The number of records in Kafka.
    pub accepted: usize,
    /// The number of records that are not in Kafka.
    pub rejected: usize,
    /// The number of records that may or may not be in Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<usize>,
    /// The rejected records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<RecordError>,
    /// The accepted records, if the caller prefers `return=representation`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<RecordMetadata>,
}

/// The outcome of a request as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Every record is in Kafka.
    Accepted,
    /// Some records are invalid; the others are in Kafka.
    PartiallyInvalid,
    /// Every record is invalid.
    Invalid,
    /// Kafka refused at least one record.
    Refused,
    /// At least one record may or may not be in Kafka.
    Unknown,
}

impl PublishResult {
    /// The worst outcome of any record: unknown before refused by Kafka, and that before invalid.
    pub fn outcome(&self) -> RequestOutcome {
        let refused = |outcome: &DeliveryOutcome| matches!(outcome, DeliveryOutcome::Refused(_));
        if self.outcomes.contains(&DeliveryOutcome::Unknown) || !self.complete {
            RequestOutcome::Unknown
        } else if self.outcomes.iter().any(refused) {
            RequestOutcome::Refused
        } else {
            match (self.queued.is_empty(), self.invalid.is_empty()) {
                (_, true) => RequestOutcome::Accepted,
                (true, false) => RequestOutcome::Invalid,
                (false, false) => RequestOutcome::PartiallyInvalid,
            }
        }
    }

    /// Counts the records, and lists the rejected ones.
    pub fn counts(self) -> Counts {
        let mut errors = self.invalid;
        let mut records = Vec::new();
        let mut accepted = 0;
        let mut unknown = 0;
        for (queued, outcome) in self.queued.iter().zip(&self.outcomes) {
            match outcome {
                DeliveryOutcome::Written { partition, offset } => {
                    accepted += 1;
                    if self.preference == Preference::Representation {
                        records.push(RecordMetadata {
                            index: queued.index,
                            id: queued.id,
                            partition: *partition,
                            offset: *offset,
                        });
                    }
                }
                DeliveryOutcome::Unknown => unknown += 1,
                DeliveryOutcome::Refused(refusal) => errors.push(RecordError {
                    index: queued.index,
                    id: Some(queued.id),
                    field: None,
                    reason: refusal.reason().to_owned(),
                }),
            }
        }
        errors.sort_by_key(|error| error.index);
        Counts {
            accepted,
            rejected: errors.len(),
            unknown: (unknown > 0).then_some(unknown),
            errors,
            records,
        }
    }
}
