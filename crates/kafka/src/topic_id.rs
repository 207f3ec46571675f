//! Requests a topic's id, which distinguishes a recreated topic from the old one.
//!
//! rdkafka has no call for it, so this file calls librdkafka directly.
#![allow(
    unsafe_code,
    reason = "rdkafka does not wrap DescribeTopics; each use documents its soundness"
)]

use std::ffi::CString;
use std::ptr;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;
use uuid::Uuid;

/// Whether two ids may be those of one topic. The nil id means that it is unknown: brokers below 2.8, and a cluster in a
/// rolling upgrade to 2.8, report no ids.
#[must_use]
pub fn same_topic(one: Uuid, other: Uuid) -> bool {
    one == other || one.is_nil() || other.is_nil()
}

/// Requests the id of `topic`, which is nil if the brokers report none. Blocks for up to `timeout`.
///
/// # Errors
/// [`KafkaError::MetadataFetch`], with `UnknownTopicOrPartition` if the topic does not exist.
pub fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Uuid, KafkaError> {
    let name = CString::new(topic).map_err(|_| KafkaError::MetadataFetch(RDKafkaErrorCode::InvalidTopic))?;
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let handle = client.native_ptr();
    // SAFETY: `handle` is valid while `client` is borrowed. librdkafka creates every object; the guards below destroy
    // each object once, in reverse order of creation. The request copies the collection and the options before
    // `DescribeTopics` returns.
    unsafe {
        let mut names = [name.as_ptr()];
        let topics = Guard(
            sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1),
            |it| {
                sys::rd_kafka_TopicCollection_destroy(it);
            },
        );
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = admin_options(handle, operation, millis);
        let queue = Guard(sys::rd_kafka_queue_new(handle), |it| {
            sys::rd_kafka_queue_destroy(it)
        });
        sys::rd_kafka_DescribeTopics(handle, topics.0, options.0, queue.0);
        // The request's own timeout applies first. The second one guards against a missing response.
        let event = Guard(
            sys::rd_kafka_queue_poll(queue.0, millis.saturating_add(1_000)),
            |it| {
                if !it.is_null() {
                    sys::rd_kafka_event_destroy(it);
                }
            },
        );
        read_response(event.0)
    }
}

/// Creates the options of a request.
///
/// # Safety
/// `handle` is a client of librdkafka.
pub(crate) unsafe fn admin_options(
    handle: *mut sys::rd_kafka_t,
    operation: sys::rd_kafka_admin_op_t,
    millis: i32,
) -> Guard<sys::rd_kafka_AdminOptions_t, impl Fn(*mut sys::rd_kafka_AdminOptions_t)> {
    // SAFETY: the handle is valid by the contract above. The guard destroys the options once.
    unsafe {
        let options = Guard(
            sys::rd_kafka_AdminOptions_new(handle, operation),
            |it: *mut sys::rd_kafka_AdminOptions_t| sys::rd_kafka_AdminOptions_destroy(it),
        );
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, millis, ptr::null_mut(), 0);
        options
    }
}

/// Returns the error of an event, or of a missing one.
///
/// # Safety
/// `event` is null, or an event of librdkafka that is not destroyed during the call.
pub(crate) unsafe fn check_event(event: *mut sys::rd_kafka_event_t) -> Result<(), KafkaError> {
    if event.is_null() {
        return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut));
    }
    // SAFETY: the event is valid by the contract above.
    match unsafe { sys::rd_kafka_event_error(event) } {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        error => Err(KafkaError::MetadataFetch(error.into())),
    }
}

/// # Safety
/// `event` is null, or an event of librdkafka that is not destroyed during the call.
unsafe fn read_response(event: *mut sys::rd_kafka_event_t) -> Result<Uuid, KafkaError> {
    let failed = |code: sys::rd_kafka_resp_err_t| KafkaError::MetadataFetch(code.into());
    // SAFETY: the event is valid by the contract above. Everything read from it is owned by it and is read before it
    // is destroyed. The description pointer is valid because the count is 1.
    unsafe {
        check_event(event)?;
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let descriptions = if result.is_null() {
            ptr::null_mut()
        } else {
            sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count)
        };
        if descriptions.is_null() || count != 1 {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::BadMessage));
        }
        let description = *descriptions;
        let error = sys::rd_kafka_TopicDescription_error(description);
        let error = if error.is_null() {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        } else {
            sys::rd_kafka_error_code(error)
        };
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(error));
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::BadMessage));
        }
        let max = sys::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned();
        let least = sys::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned();
        Ok(Uuid::from_u64_pair(max, least))
    }
}

/// Destroys an object of librdkafka when it goes out of scope.
pub(crate) struct Guard<T, D: Fn(*mut T)>(pub(crate) *mut T, pub(crate) D);

impl<T, D: Fn(*mut T)> Drop for Guard<T, D> {
    fn drop(&mut self) {
        (self.1)(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_id_is_no_other_topic() {
        let [one, other] = [1, 2].map(Uuid::from_u128);
        assert!(same_topic(one, one) && !same_topic(one, other));
        assert!(same_topic(Uuid::nil(), one) && same_topic(one, Uuid::nil()));
    }
}
