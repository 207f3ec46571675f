//! What became of the records of one request, in the words of the caller: which are in Kafka, which are not and why, of
//! which nobody can say. It knows no HTTP; what to answer is decided elsewhere.

use model::{Invalid, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::deliveries::Outcome;
use crate::preference::Preference;

/// A record that is not in Kafka, and why. Quotes no value of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecordError {
    /// The record's place in the request, from 0.
    pub index: usize,
    /// Its id, if that much could be read.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub id: Option<UserId>,
    /// The field at fault; none when the record as a whole is.
    pub field: Option<String>,
    /// The rule it broke.
    pub reason: String,
}

impl RecordError {
    /// The record at `index` is not valid.
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

/// A record that was given to the producer.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// The record's place in the request, from 0.
    pub index: usize,
    /// Its id.
    pub id: UserId,
}

/// A record that is in Kafka, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Place {
    /// The record's place in the request, from 0.
    pub index: usize,
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: UserId,
    /// The partition it lies in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
}

/// What there is to say about a request, when everything is settled.
#[derive(Debug)]
pub struct Settled {
    /// The valid records, in order.
    pub sent: Vec<Sent>,
    /// What became of each of them.
    pub outcomes: Vec<Outcome>,
    /// Whether the producer took them all; if not, what follows those sent was not written.
    pub complete: bool,
    /// The invalid records, in order.
    pub invalid: Vec<RecordError>,
    /// How much of it the caller wants to hear.
    pub preference: Preference,
}

/// The body of the answers 200, 207 and 422, and a part of 502 and 504.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counts {
    /// Records that are in Kafka.
    pub accepted: usize,
    /// Records that are not.
    pub rejected: usize,
    /// Records of which nobody can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<usize>,
    /// Each of those that are not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<RecordError>,
    /// Each of those that are, when the caller prefers `return=representation`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<Place>,
}

/// How it went with a request, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it is in Kafka.
    Accepted,
    /// Some records are invalid; the others are in Kafka.
    Mixed,
    /// Every record is invalid.
    Invalid,
    /// Kafka has refused at least one.
    Refused,
    /// Of at least one nobody can say.
    Unknown,
}

impl Settled {
    /// Any doubt outweighs everything else, and a refusal by Kafka outweighs invalid records.
    pub fn verdict(&self) -> Verdict {
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
        if self.outcomes.contains(&Outcome::Unknown) || !self.complete {
            Verdict::Unknown
        } else if self.outcomes.iter().any(refused) {
            Verdict::Refused
        } else {
            match (self.sent.is_empty(), self.invalid.is_empty()) {
                (_, true) => Verdict::Accepted,
                (true, false) => Verdict::Invalid,
                (false, false) => Verdict::Mixed,
            }
        }
    }

    /// How many, and each that is to be told.
    pub fn counts(self) -> Counts {
        let mut errors = self.invalid;
        let mut records = Vec::new();
        let mut accepted = 0;
        let mut unknown = 0;
        for (sent, outcome) in self.sent.iter().zip(&self.outcomes) {
            match outcome {
                Outcome::Written { partition, offset } => {
                    accepted += 1;
                    if self.preference == Preference::Representation {
                        records.push(Place {
                            index: sent.index,
                            id: sent.id,
                            partition: *partition,
                            offset: *offset,
                        });
                    }
                }
                Outcome::Unknown => unknown += 1,
                Outcome::Refused(refusal) => errors.push(RecordError {
                    index: sent.index,
                    id: Some(sent.id),
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
