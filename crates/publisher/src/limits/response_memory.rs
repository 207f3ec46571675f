//! Counts unread responses as bytes in flight. A list of thousands of errors takes megabytes until its caller reads
//! it.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;

use super::admission::{Admission, AdmissionPermit};

/// A response up to this size, in bytes, counts as part of its connection.
const SMALL: usize = 4 * 1024;

/// Holds a permit for a response until its last byte is written or its connection is closed.
pub(crate) fn track_response_memory(response: Response<Body>, admission: &Admission) -> Response<Body> {
    let exact = response.body().size_hint().exact();
    let Some(length) = exact.and_then(|length| usize::try_from(length).ok()) else {
        return response;
    };
    if length <= SMALL {
        return response;
    }
    let permit = Arc::new(admission.enter_above_limit(length));
    let (mut head, body) = response.into_parts();
    // A mapped body has no exact length.
    head.headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let tracked = body.map_frame(move |frame| {
        frame.map_data(|bytes| {
            let _permit = Arc::clone(&permit);
            Bytes::from_owner(TrackedBytes { bytes, _permit })
        })
    });
    Response::from_parts(head, Body::new(tracked))
}

/// Bytes that hold a permit until they are dropped.
struct TrackedBytes {
    bytes: Bytes,
    _permit: Arc<AdmissionPermit>,
}

impl AsRef<[u8]> for TrackedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use service::Metrics;

    use super::*;
    use crate::config::LimitSettings;
    use crate::metrics::PublisherMetrics;

    #[tokio::test]
    async fn large_response_counts_until_its_bytes_are_dropped() {
        let metrics = PublisherMetrics::new(&Metrics::new("test"));
        let admission = Admission::new(&LimitSettings::default(), &metrics);
        let response =
            |length: usize| track_response_memory(Response::new(Body::from(vec![b'x'; length])), &admission);
        let small = response(SMALL);
        assert_eq!(metrics.bytes_in_flight.get(), 0);
        let large = response(SMALL + 1);
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
