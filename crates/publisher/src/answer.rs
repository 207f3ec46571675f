//! What became of a request's records → the answer over HTTP. One pure decision; it reads no request and asks nobody.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use model::headers::{self, http};

use crate::preference::Preference;
use crate::problem::Problem;
use crate::verdict::{Settled, Verdict};

/// The answers 200, 207 and 422: everything is known of every record. They may be given again.
#[derive(Clone, Debug)]
pub struct Told {
    status: StatusCode,
    document: Bytes,
    preference: Preference,
    repeated: bool,
}

/// The answer to a request whose records were sent.
#[derive(Debug)]
pub enum Answer {
    /// All is known.
    Told(Told),
    /// All is not well.
    Problem(Problem),
}

impl Told {
    /// An answer with a JSON document.
    pub fn new(status: StatusCode, document: Bytes, preference: Preference) -> Self {
        Self {
            status,
            document,
            preference,
            repeated: false,
        }
    }

    /// The same answer, given again.
    pub fn again(self) -> Self {
        Self {
            repeated: true,
            ..self
        }
    }

    /// How much room it takes, in bytes.
    pub fn size(&self) -> usize {
        self.document.len()
    }
}

impl From<Settled> for Answer {
    fn from(settled: Settled) -> Self {
        let (verdict, preference) = (settled.verdict(), settled.preference);
        let counts = settled.counts();
        let status = match verdict {
            Verdict::Accepted => StatusCode::OK,
            Verdict::Mixed => StatusCode::MULTI_STATUS,
            Verdict::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Verdict::Refused => return Self::Problem(Problem::refused(counts)),
            Verdict::Unknown => return Self::Problem(Problem::unknown(Some(counts))),
        };
        let document = serde_json::to_vec(&counts).expect("a struct of texts and numbers can be written");
        Self::Told(Told::new(status, document.into(), preference))
    }
}

impl IntoResponse for Told {
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
        if self.repeated {
            headers.insert(
                HeaderName::from_static("idempotency-replayed"),
                HeaderValue::from_static("true"),
            );
        }
        response
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Told(told) => told.into_response(),
            Self::Problem(problem) => problem.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::deliveries::{Outcome, Refusal};
    use crate::verdict::{RecordError, Sent};

    const ID: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
    const WRITTEN: Outcome = Outcome::Written {
        partition: 0,
        offset: 1,
    };

    async fn answer(outcomes: &[Outcome], invalid: &[usize]) -> (StatusCode, Value) {
        preferred(Preference::Counts, outcomes, invalid).await
    }

    async fn preferred(
        preference: Preference,
        outcomes: &[Outcome],
        invalid: &[usize],
    ) -> (StatusCode, Value) {
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
            preference,
        };
        let (head, body) = Answer::from(settled).into_response().into_parts();
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
    async fn who_prefers_it_hears_where_each_record_is() {
        let (_, body) = preferred(Preference::Representation, &[WRITTEN], &[0]).await;
        let place = json!({"index": 1, "id": ID, "partition": 0, "offset": 1});
        assert_eq!(body["records"], json!([place]));
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
            preference: Preference::Counts,
        };
        let response = Answer::from(settled).into_response();
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    }
}
