//! Makes a Kafka client that has lost all brokers connect to its bootstrap servers again.
//!
//! A broker that was paused or partitioned is fenced. Until the controllers register it again, it responds to metadata
//! requests with no brokers. librdkafka then drops all brokers, sends no more requests and never recovers, although the
//! cluster is healthy (librdkafka issue 5301; versions 2.12 and 2.13). `metadata.recovery.rebootstrap.trigger.ms` does
//! not help, since it needs failed requests. So this monitor adds the bootstrap servers again after a time without
//! responses. A client that knows a broker at such an address ignores that.
#![allow(
    unsafe_code,
    reason = "rdkafka does not wrap rd_kafka_brokers_add; the one use says why it is sound"
)]

use std::ffi::CString;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// How long a client may get no response before the bootstrap servers are added again, and between two additions.
///
/// Readiness must return within 10 s of the cluster's recovery, including a request's timeout and the interval between
/// requests. librdkafka keeps a few dozen bytes for each addition: about 2 MB for a day without brokers.
pub const REBOOTSTRAP_AFTER: Duration = Duration::from_secs(3);

/// Observes the responses that one client gets.
#[derive(Debug)]
pub struct RebootstrapMonitor {
    servers: CString,
    /// Since when there is no response, or when the servers were added last.
    no_response_since: Mutex<Option<Instant>>,
}

impl RebootstrapMonitor {
    /// Monitors a client with these bootstrap servers, in librdkafka's format.
    #[must_use]
    pub fn new(servers: &str) -> Self {
        Self {
            // librdkafka refuses a text with a NUL, so there is no client to monitor.
            servers: CString::new(servers).unwrap_or_default(),
            no_response_since: Mutex::default(),
        }
    }

    /// Observes the result of a request. Adds the bootstrap servers again after [`REBOOTSTRAP_AFTER`] without a response.
    pub fn observe<C: ClientContext, T>(&self, client: &Client<C>, result: &Result<T, KafkaError>) {
        if self.is_due(has_no_response(result), Instant::now()) {
            // SAFETY: the handle lives as long as the borrowed client and the text as long as `self`. librdkafka copies the
            // text and allows the call from any thread.
            unsafe {
                rdkafka_sys::rd_kafka_brokers_add(client.native_ptr(), self.servers.as_ptr());
            }
        }
    }

    fn is_due(&self, has_no_response: bool, now: Instant) -> bool {
        let mut since = self
            .no_response_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !has_no_response {
            *since = None;
            return false;
        }
        let is_due = now - *since.get_or_insert(now) >= REBOOTSTRAP_AFTER;
        if is_due {
            *since = Some(now);
        }
        is_due
    }
}

/// Whether no broker responded. An error that a broker sends is a response.
pub(crate) fn has_no_response<T>(result: &Result<T, KafkaError>) -> bool {
    use RDKafkaErrorCode as Code;
    result.as_ref().is_err_and(|error| {
        matches!(
            error.rdkafka_error_code(),
            Some(
                Code::BrokerTransportFailure
                    | Code::OperationTimedOut
                    | Code::MessageTimedOut
                    | Code::AllBrokersDown
            )
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_added_periodically_without_responses() {
        let (monitor, start) = (RebootstrapMonitor::new("a:1"), Instant::now());
        let is_due = |seconds: f64| monitor.is_due(true, start + Duration::from_secs_f64(seconds));
        assert_eq!(
            [0.0, 2.9, 3.0, 3.1, 5.9, 6.1].map(is_due),
            [false, false, true, false, false, true]
        );
        assert!(!monitor.is_due(false, start + Duration::from_secs(9)));
        assert!(!is_due(9.5) && !is_due(12.0) && is_due(12.5));
    }

    #[test]
    fn error_of_a_broker_is_a_response() {
        let failed = |code| Err::<(), _>(KafkaError::MetadataFetch(code));
        assert!(has_no_response(&failed(RDKafkaErrorCode::BrokerTransportFailure)));
        assert!(!has_no_response(&failed(RDKafkaErrorCode::NotCoordinator)));
        assert!(!has_no_response(&Ok(())));
    }
}
