//! Maps the result of a request to its HTTP response. Pure: no I/O.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use model::headers::{self, http};

use super::result::{PublishResult, RequestOutcome};
use crate::http::problem::Problem;
use crate::request::preference::Preference;

/// A response 200, 207 or 422, which an idempotent retry gets again: the outcome of every record is known.
#[derive(Clone, Debug)]
pub struct CachedResponse {
    status: StatusCode,
    document: Bytes,
    preference: Preference,
    replayed: bool,
}

/// The response to a request whose records were queued.
#[derive(Debug)]
pub enum PublishResponse {
    /// The outcome of every record is known; a retry gets the same response.
    Final(CachedResponse),
    /// Kafka refused a record, or the outcome is unknown; a retry is processed again.
    Problem(Problem),
}

impl CachedResponse {
    /// A response with a JSON document.
    pub fn new(status: StatusCode, document: Bytes, preference: Preference) -> Self {
        Self {
            status,
            document,
            preference,
            replayed: false,
        }
    }

    /// The same response, marked as replayed.
    pub fn replayed(self) -> Self {
        Self {
            replayed: true,
            ..self
        }
    }

    /// The size of the document, in bytes.
    pub fn size(&self) -> usize {
        self.document.len()
    }
}

impl From<PublishResult> for PublishResponse {
    fn from(result: PublishResult) -> Self {
        let (outcome, preference) = (result.outcome(), result.preference);
        let counts = result.counts();
        let status = match outcome {
            RequestOutcome::Accepted => StatusCode::OK,
            RequestOutcome::PartiallyInvalid => StatusCode::MULTI_STATUS,
            RequestOutcome::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            RequestOutcome::Refused => return Self::Problem(Problem::refused(counts)),
            RequestOutcome::Unknown => return Self::Problem(Problem::unknown(Some(counts))),
        };
        let document = serde_json::to_vec(&counts).expect("texts and numbers serialize");
        Self::Final(CachedResponse::new(status, document.into(), preference))
    }
}

impl IntoResponse for CachedResponse {
    fn into_response(self) -> Response<Body> {
        let media_type = [(header::CONTENT_TYPE, HeaderValue::from_static(headers::JSON))];
        let mut response = (self.status, media_type, self.document).into_response();
        let headers = response.headers_mut();
        if self.preference == Preference::Representation {
            headers.insert(
                HeaderName::from_static("preference-applied"),
                HeaderValue::from_static(http::RETURN_REPRESENTATION),
            );
        }
        if self.replayed {
            headers.insert(
                HeaderName::from_static("idempotency-replayed"),
                HeaderValue::from_static("true"),
            );
        }
        response
    }
}

impl IntoResponse for PublishResponse {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Final(response) => response.into_response(),
            Self::Problem(problem) => problem.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use model::Contract;
    use serde_json::{Value, json};

    use super::*;
    use crate::publish::delivery::{DeliveryOutcome, RejectReason};
    use crate::publish::result::{QueuedRecord, RecordError};

    const ID: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
    const WRITTEN: DeliveryOutcome = DeliveryOutcome::Written {
        partition: 0,
        offset: 1,
    };

    async fn response(outcomes: &[DeliveryOutcome], invalid: &[usize]) -> (StatusCode, Value) {
        response_preferring(Preference::Minimal, outcomes, invalid).await
    }

    async fn response_preferring(
        preference: Preference,
        outcomes: &[DeliveryOutcome],
        invalid: &[usize],
    ) -> (StatusCode, Value) {
        let first = invalid.len();
        let result = PublishResult {
            queued: (first..first + outcomes.len())
                .map(|index| QueuedRecord {
                    index,
                    key: Contract::user().parse_key(ID.as_bytes()).unwrap(),
                })
                .collect(),
            outcomes: outcomes.to_vec(),
            complete: true,
            invalid: invalid
                .iter()
                .map(|index| RecordError::too_large(*index, 9))
                .collect(),
            preference,
        };
        let (head, body) = PublishResponse::from(result).into_response().into_parts();
        let bytes = to_bytes(body, 10_000).await.unwrap();
        (head.status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn all_written_is_200_with_counts_only() {
        let (status, body) = response(&[WRITTEN, WRITTEN], &[]).await;
        assert_eq!(
            (status, body),
            (StatusCode::OK, json!({"accepted": 2, "rejected": 0}))
        );
    }

    #[tokio::test]
    async fn some_invalid_is_207_and_all_invalid_is_422() {
        let (status, body) = response(&[WRITTEN], &[0]).await;
        assert_eq!(status, StatusCode::MULTI_STATUS);
        let first = json!({"field": null, "reason": "is larger than 9 bytes"});
        let error = json!({
            "index": 0, "id": null, "field": first["field"], "reason": first["reason"], "errors": [first],
        });
        assert_eq!(body, json!({"accepted": 1, "rejected": 1, "errors": [error]}));
        let (status, body) = response(&[], &[0, 1]).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!((&body["accepted"], &body["rejected"]), (&json!(0), &json!(2)));
    }

    #[tokio::test]
    async fn representation_lists_partition_and_offset() {
        let (_, body) = response_preferring(Preference::Representation, &[WRITTEN], &[0]).await;
        let metadata = json!({"index": 1, "id": ID, "partition": 0, "offset": 1});
        assert_eq!(body["records"], json!([metadata]));
    }

    #[tokio::test]
    async fn refusal_by_kafka_is_502_with_the_record() {
        let refused = DeliveryOutcome::Refused(RejectReason::TooLarge);
        let (status, body) = response(&[WRITTEN, refused], &[0]).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY);
        assert_eq!((&body["accepted"], &body["rejected"]), (&json!(1), &json!(2)));
        assert_eq!(body["errors"][1]["index"], 2);
        assert_eq!(body["errors"][1]["id"], ID);
    }

    #[tokio::test]
    async fn any_unknown_record_is_504_with_the_count() {
        let refused = DeliveryOutcome::Refused(RejectReason::TooLarge);
        let (status, body) = response(&[WRITTEN, DeliveryOutcome::Unknown, refused], &[]).await;
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!((&body["accepted"], &body["unknown"]), (&json!(1), &json!(1)));
    }

    #[test]
    fn incomplete_request_is_504_even_if_all_is_written() {
        let result = PublishResult {
            queued: vec![],
            outcomes: vec![],
            complete: false,
            invalid: vec![],
            preference: Preference::Minimal,
        };
        let response = PublishResponse::from(result).into_response();
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    }
}
