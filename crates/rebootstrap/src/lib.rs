//! Gives a Kafka client that has lost every broker its bootstrap servers again.
//!
//! A broker that was frozen or cut off is fenced, and until the controllers have heard of it again it answers a question for
//! metadata with no brokers at all. librdkafka takes that for the truth: it lets go of every broker, asks nobody any more, and
//! does so for ever, while the cluster is well (librdkafka's issue 5301; 2.12 does it, 2.13 too). Its own
//! `metadata.recovery.rebootstrap.trigger.ms` does not help, for no question fails that is not asked. So whoever gets no answer
//! for a while tells the client anew where to ask. To a client that knows a broker at that address this does nothing.
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

/// How long a client may get no answer before it is told where to ask, and between two such tellings. Readiness is to
/// return within 10 s of the cluster's return, a question's own timeout and the pause before it included. librdkafka keeps each
/// telling, a few dozen bytes: some 2 MB for a day without brokers.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Watches over the answers that one client gets.
#[derive(Debug)]
pub struct Answers {
    servers: CString,
    silent: Mutex<Option<Instant>>,
}

impl Answers {
    /// Of a client with these bootstrap servers, as librdkafka takes them.
    #[must_use]
    pub fn of(servers: &str) -> Self {
        Self {
            // What librdkafka could not be configured with names no server.
            servers: CString::new(servers).unwrap_or_default(),
            silent: Mutex::default(),
        }
    }

    /// Takes note of an answer, or that there was none; tells the client where to ask when it has had none for
    /// [`PATIENCE`].
    pub fn note<C: ClientContext, T>(&self, client: &Client<C>, answer: &Result<T, KafkaError>) {
        if self.is_to_be_told(is_silence(answer), Instant::now()) {
            // SAFETY: the handle lives as long as the borrowed client, the text as long as `self`; librdkafka copies it, and
            // its call may come from any thread.
            unsafe {
                rdkafka_sys::rd_kafka_brokers_add(client.native_ptr(), self.servers.as_ptr());
            }
        }
    }

    fn is_to_be_told(&self, silence: bool, now: Instant) -> bool {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if !silence {
            *silent = None;
            return false;
        }
        let due = now - *silent.get_or_insert(now) >= PATIENCE;
        if due {
            *silent = Some(now);
        }
        due
    }
}

/// An error that a broker sends is an answer, too.
fn is_silence<T>(answer: &Result<T, KafkaError>) -> bool {
    use RDKafkaErrorCode as Code;
    answer.as_ref().is_err_and(|error| {
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
    fn a_client_is_told_after_its_patience_and_then_once_in_a_while() {
        let (answers, start) = (Answers::of("a:1"), Instant::now());
        let told = |seconds: f64| answers.is_to_be_told(true, start + Duration::from_secs_f64(seconds));
        assert_eq!(
            [0.0, 2.9, 3.0, 3.1, 5.9, 6.1].map(told),
            [false, false, true, false, false, true]
        );
        assert!(!answers.is_to_be_told(false, start + Duration::from_secs(9)));
        assert!(!told(9.5) && !told(12.0) && told(12.5));
    }

    #[test]
    fn only_silence_is_silence() {
        let failed = |code| Err::<(), _>(KafkaError::MetadataFetch(code));
        assert!(is_silence(&failed(RDKafkaErrorCode::BrokerTransportFailure)));
        assert!(!is_silence(&failed(RDKafkaErrorCode::NotCoordinator)));
        assert!(!is_silence(&Ok(())));
    }
}
