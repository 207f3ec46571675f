//! What became of a request's records → the answer. One pure decision; it reads no request and asks nobody.

use axum::Json;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use model::{Invalid, UserId};
use serde::Serialize;

use crate::deliveries::Outcome;
use crate::problem::Problem;

/// A record that is not in Kafka, and why. Quotes no value of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordError {
    /// The record's place in the request, from 0.
    pub index: usize,
    /// Its id, if that much could be read.
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
}

/// The body of the answers 200, 207 and 422, and a part of 502 and 504.
#[derive(Debug, Serialize)]
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
}

impl Settled {
    /// The answer. Any doubt outweighs everything else, and a refusal by Kafka outweighs invalid records.
    pub fn answer(self) -> Response<Body> {
        let unknown = self.outcomes.contains(&Outcome::Unknown);
        let refused = self
            .outcomes
            .iter()
            .any(|outcome| matches!(outcome, Outcome::Refused(_)));
        if unknown || !self.complete {
            return Problem::unknown(Some(self.counts())).into_response();
        }
        if refused {
            return Problem::refused(self.counts()).into_response();
        }
        let status = match (self.sent.is_empty(), self.invalid.is_empty()) {
            (_, true) => StatusCode::OK,
            (true, false) => StatusCode::UNPROCESSABLE_ENTITY,
            (false, false) => StatusCode::MULTI_STATUS,
        };
        (status, Json(self.counts())).into_response()
    }

    fn counts(self) -> Counts {
        let mut errors = self.invalid;
        let mut accepted = 0;
        let mut unknown = 0;
        for (sent, outcome) in self.sent.iter().zip(&self.outcomes) {
            match outcome {
                Outcome::Written { .. } => accepted += 1,
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
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::deliveries::Refusal;

    const ID: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
    const WRITTEN: Outcome = Outcome::Written {
        partition: 0,
        offset: 1,
    };

    async fn answer(outcomes: &[Outcome], invalid: &[usize]) -> (StatusCode, Value) {
        let first = invalid.len();
        let settled = Settled {
            sent: (first..first + outcomes.len())
                .map(|index| Sent {
                    index,
                    id: ID.parse().unwrap(),
                })
                .collect(),
            outcomes: outcomes.to_vec(),
            complete: true,
            invalid: invalid
                .iter()
                .map(|index| RecordError::too_large(*index, 9))
                .collect(),
        };
        let (head, body) = settled.answer().into_parts();
        let bytes = to_bytes(body, 10_000).await.unwrap();
        (head.status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn all_written_is_200_and_says_no_more_than_that() {
        let (status, body) = answer(&[WRITTEN, WRITTEN], &[]).await;
        assert_eq!(
            (status, body),
            (StatusCode::OK, json!({"accepted": 2, "rejected": 0}))
        );
    }

    #[tokio::test]
    async fn some_invalid_is_207_and_all_invalid_is_422() {
        let (status, body) = answer(&[WRITTEN], &[0]).await;
        assert_eq!(status, StatusCode::MULTI_STATUS);
        let error = json!({"index": 0, "id": null, "field": null, "reason": "is larger than 9 bytes"});
        assert_eq!(body, json!({"accepted": 1, "rejected": 1, "errors": [error]}));
        let (status, body) = answer(&[], &[0, 1]).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!((&body["accepted"], &body["rejected"]), (&json!(0), &json!(2)));
    }

    #[tokio::test]
    async fn a_refusal_by_kafka_is_502_and_names_the_record() {
        let refused = Outcome::Refused(Refusal::TooLarge);
        let (status, body) = answer(&[WRITTEN, refused], &[0]).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY);
        assert_eq!((&body["accepted"], &body["rejected"]), (&json!(1), &json!(2)));
        assert_eq!(body["errors"][1]["index"], 2);
        assert_eq!(body["errors"][1]["id"], ID);
    }

    #[tokio::test]
    async fn any_doubt_is_504_and_says_of_how_many() {
        let refused = Outcome::Refused(Refusal::TooLarge);
        let (status, body) = answer(&[WRITTEN, Outcome::Unknown, refused], &[]).await;
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!((&body["accepted"], &body["unknown"]), (&json!(1), &json!(1)));
    }

    #[test]
    fn a_batch_that_was_broken_off_is_in_doubt_even_if_what_was_sent_is_written() {
        let settled = Settled {
            sent: vec![],
            outcomes: vec![],
            complete: false,
            invalid: vec![],
        };
        assert_eq!(settled.answer().status(), StatusCode::GATEWAY_TIMEOUT);
    }
}
