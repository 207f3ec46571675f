//! An answer that its caller has not read yet. A list of thousands of errors is megabytes, and a caller decides when to
//! read it; so it takes room like a request until it is written. It waits for nobody: the connection does.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;

use crate::admission::{Admission, Reservation};

/// An answer up to this size, in bytes, counts as part of its connection.
const SMALL: usize = 4 * 1024;

/// The answer, which takes room until its last byte is written or its connection is gone.
pub(crate) fn hold(answer: Response<Body>, admission: &Admission) -> Response<Body> {
    let exact = answer.body().size_hint().exact();
    let Some(length) = exact.and_then(|length| usize::try_from(length).ok()) else {
        return answer;
    };
    if length <= SMALL {
        return answer;
    }
    let room = Arc::new(admission.hold(length));
    let (mut head, body) = answer.into_parts();
    // A mapped body does not know its length any more.
    head.headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let held = body.map_frame(move |frame| {
        frame.map_data(|bytes| {
            let _room = Arc::clone(&room);
            Bytes::from_owner(Held { bytes, _room })
        })
    });
    Response::from_parts(head, Body::new(held))
}

/// Bytes that take room until nobody has them any more.
struct Held {
    bytes: Bytes,
    _room: Arc<Reservation>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use service::Metrics;

    use super::*;
    use crate::metrics::PublisherMetrics;
    use crate::settings::LimitSettings;

    #[tokio::test]
    async fn a_large_answer_takes_room_until_its_bytes_are_gone_and_a_small_one_takes_none() {
        let metrics = PublisherMetrics::new(&Metrics::new("test"));
        let admission = Admission::new(&LimitSettings::default(), &metrics);
        let answer = |length: usize| hold(Response::new(Body::from(vec![b'x'; length])), &admission);
        let small = answer(SMALL);
        assert_eq!(metrics.bytes_in_flight.get(), 0);
        let large = answer(SMALL + 1);
        assert_eq!(metrics.bytes_in_flight.get(), 4_097);
        assert_eq!(large.headers()["content-length"], "4097");
        let bytes = large
            .into_body()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap();
        let rest = bytes.slice(4_000..);
        drop(bytes);
        assert_eq!((rest.len(), metrics.bytes_in_flight.get()), (97, 4_097));
        drop((rest, small));
        assert_eq!(metrics.bytes_in_flight.get(), 0);
    }
}
