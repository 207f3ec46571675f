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

use crate::admin_request::{Guard, admin_request};

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
        let event = admin_request(handle, operation, timeout, |options, queue| {
            sys::rd_kafka_DescribeTopics(handle, topics.0, options, queue);
        })?;
        read_response(event.0)
    }
}

/// # Safety
/// `event` is an event of librdkafka that is not destroyed during the call.
unsafe fn read_response(event: *mut sys::rd_kafka_event_t) -> Result<Uuid, KafkaError> {
    let failed = |code: sys::rd_kafka_resp_err_t| KafkaError::MetadataFetch(code.into());
    // SAFETY: the event is valid by the contract above. Everything read from it is owned by it and is read before it
    // is destroyed. The description pointer is valid because the count is 1.
    unsafe {
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
