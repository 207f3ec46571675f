//! The result of publishing a request: which records are in Kafka, which are not and why, and which are unknown.
//!
//! Knows no HTTP; `response` maps a result to a status.

use model::{Invalid, Key};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::delivery::DeliveryOutcome;
use crate::request::preference::Preference;

/// A record that is not in Kafka, and why. Quotes no value of the record except its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's index in the request, from 0.
    pub index: usize,
    /// Its key, if it could be parsed.
    pub id: Option<Key>,
    /// Not empty.
    errors: Vec<FieldError>,
}

/// One error of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The invalid field; none if the record as a whole is invalid.
    pub field: Option<String>,
    /// The rule that it violates.
    pub reason: String,
}

/// A record that is not in Kafka, and why. Quotes no value of the record except its id.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordError)]
pub(crate) struct RecordErrorDocument<'a> {
    /// The record's index in the request, from 0.
    index: usize,
    /// Its id, if it could be parsed.
    #[schema(value_type = Option<String>)]
    id: Option<&'a Key>,
    /// The field of the first error; none if the record as a whole is invalid.
    field: Option<&'a str>,
    /// The rule of the first error.
    reason: &'a str,
    /// All errors of the record, at most 8.
    errors: &'a [FieldError],
}

impl RecordError {
    /// The record at `index` is invalid.
    pub fn invalid(index: usize, invalid: &Invalid) -> Self {
        let errors = invalid.errors().iter().map(|error| FieldError {
            field: error.field.as_ref().map(ToString::to_string),
            reason: error.reason.to_string(),
        });
        Self {
            index,
            id: invalid.key().cloned(),
            errors: errors.collect(),
        }
    }

    /// The record at `index` has more than `limit` bytes.
    pub fn too_large(index: usize, limit: usize) -> Self {
        Self::of_record(index, None, format!("is larger than {limit} bytes"))
    }

    /// The record at `index` alone is larger than a batch of the topic, which has at most `limit` bytes.
    pub fn too_large_for_topic(index: usize, limit: usize) -> Self {
        let reason = format!("is larger than the topic's limit of {limit} bytes");
        Self::of_record(index, None, reason)
    }

    fn of_record(index: usize, id: Option<Key>, reason: String) -> Self {
        let field = None;
        Self {
            index,
            id,
            errors: vec![FieldError { field, reason }],
        }
    }

    /// Removes all errors but the first.
    pub(crate) fn keep_first(&mut self) {
        self.errors.truncate(1);
        self.errors.shrink_to_fit();
    }

    /// The memory of the error and of its part of the response, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let of_field = |error: &FieldError| {
            let texts = error.reason.len() + error.field.as_ref().map_or(0, String::len);
            size_of::<FieldError>() + size_of_val("{\"field\":\"\",\"reason\":\"\"},") + 2 * texts
        };
        // The response repeats the first error.
        let errors = self.errors.iter().chain(self.errors.first()).map(of_field);
        let id = self.id.as_ref().map_or(0, |id| 2 * id.text().len());
        size_of::<Self>() + id + errors.sum::<usize>()
    }
}

impl Serialize for RecordError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let first = self.errors.first().expect("an invalid record has an error");
        RecordErrorDocument {
            index: self.index,
            id: self.id.as_ref(),
            field: first.field.as_deref(),
            reason: &first.reason,
            errors: &self.errors,
        }
        .serialize(serializer)
    }
}

/// A record in the producer's queue.
#[derive(Clone, Debug)]
pub struct QueuedRecord {
    /// The record's index in the request, from 0.
    pub index: usize,
    /// Its key.
    pub key: Key,
}

/// The partition and offset of a record in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecordMetadata {
    /// The record's index in the request, from 0.
    pub index: usize,
    /// Its id.
    #[schema(value_type = String)]
    pub id: Key,
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
    #[schema(value_type = Vec<RecordErrorDocument>)]
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
        for (queued, outcome) in self.queued.into_iter().zip(&self.outcomes) {
            match outcome {
                DeliveryOutcome::Written { partition, offset } => {
                    accepted += 1;
                    if self.preference == Preference::Representation {
                        records.push(RecordMetadata {
                            index: queued.index,
                            id: queued.key,
                            partition: *partition,
                            offset: *offset,
                        });
                    }
                }
                DeliveryOutcome::Unknown => unknown += 1,
                DeliveryOutcome::Refused(refusal) => {
                    let reason = refusal.reason().to_owned();
                    errors.push(RecordError::of_record(queued.index, Some(queued.key), reason));
                }
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

#[cfg(test)]
mod tests {
    use model::Contract;

    use super::*;

    fn invalid(json: &str) -> RecordError {
        let proto = "syntax = \"proto3\"; import \"affluent/options/v1/options.proto\"; message M {
            option (affluent.options.v1.record) = { resource: \"m\" key: \"k\" };
            string k = 1; int32 a = 2; repeated int32 b = 3; }";
        let contract = Contract::from_source(proto).unwrap();
        RecordError::invalid(3, &contract.parse_strict(json.as_bytes()).unwrap_err())
    }

    #[test]
    fn first_error_is_repeated_beside_all() {
        let error = invalid(r#"{"k":"x","b":[0.5],"c":1}"#);
        let first = FieldError {
            field: Some("c".to_owned()),
            reason: "is not a field of the record".to_owned(),
        };
        let json = serde_json::to_value(&error).unwrap();
        let fields: Vec<_> = json["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| &error["field"])
            .collect();
        assert_eq!(fields, ["c", "a", "b"]);
        assert_eq!(
            (&json["index"], &json["id"]),
            (&serde_json::json!(3), &serde_json::json!("x"))
        );
        assert_eq!(json["errors"][0], serde_json::to_value(&first).unwrap());
        assert_eq!(
            (&json["field"], &json["reason"]),
            (&json["errors"][0]["field"], &json["errors"][0]["reason"])
        );
        let mut error = error;
        error.keep_first();
        assert_eq!(error.errors, [first]);
    }

    #[test]
    fn memory_covers_the_texts_and_the_response() {
        let unknown: Vec<_> = (0..9)
            .map(|index| format!("\"{index}{}\":0", "é".repeat(63)))
            .collect();
        let key = "k".repeat(500);
        for json in [
            "{".to_owned(),
            "{}".to_owned(),
            format!("{{\"k\":\"{key}\",{}}}", unknown.join(",")),
        ] {
            let error = invalid(&json);
            let texts = error.errors.iter().map(|error| {
                error.reason.capacity()
                    + error.field.as_ref().map_or(0, String::capacity)
                    + size_of::<FieldError>()
            });
            let id = error.id.as_ref().map_or(0, |id| id.text().len());
            let response = serde_json::to_vec(&error).unwrap().len();
            let held = size_of::<RecordError>() + id + texts.sum::<usize>() + response;
            assert!(error.memory() >= held, "{} below {held}", error.memory());
            assert!(error.memory() <= 2 * held, "{} far above {held}", error.memory());
        }
    }
}
