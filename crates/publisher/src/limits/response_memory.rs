//! Counts unread responses as bytes in flight. A list of thousands of errors takes megabytes until its caller reads
//! it.

use axum::body::{Body, HttpBody as _};
use axum::http::Response;
use service::http::activity::Hold;

use super::admission::AdmissionPermit;
use super::cost::REQUEST_COST;

/// Holds the permit of a request until the last byte of its response is written or its connection is closed. A response
/// above [`REQUEST_COST`] counts even above the limit: it has to be sent. Its request held more and has just released
/// it, so the excess is a part of the limit at most.
pub(crate) fn hold_until_written(response: &mut Response<Body>, mut permit: AdmissionPermit) {
    let exact = response.body().size_hint().exact();
    let length = exact.and_then(|length| usize::try_from(length).ok());
    let surplus = length.map_or(0, |length| length.saturating_sub(REQUEST_COST));
    permit.acquire_bytes_above_limit(surplus);
    response.extensions_mut().insert(Hold::new(permit));
}

#[cfg(test)]
mod tests {
    use service::Metrics;

    use super::*;
    use crate::config::LimitSettings;
    use crate::limits::admission::Admission;
    use crate::metrics::PublisherMetrics;

    #[test]
    fn response_counts_until_its_hold_is_dropped() {
        let metrics = PublisherMetrics::new(&Metrics::new("test"));
        let admission = Admission::new(&LimitSettings::default(), &metrics);
        for (length, counted) in [(0, 4_096), (4_096, 4_096), (5_000, 5_000)] {
            let mut response = Response::new(Body::from(vec![b'x'; length]));
            hold_until_written(&mut response, admission.enter_request().unwrap());
            assert_eq!(metrics.bytes_in_flight.get(), counted);
            let hold = response.extensions_mut().remove::<Hold>();
            drop(response);
            assert_eq!(metrics.bytes_in_flight.get(), counted);
            drop(hold);
            assert_eq!(metrics.bytes_in_flight.get(), 0);
        }
    }
}
