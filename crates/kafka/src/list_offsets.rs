//! Requests high watermarks.
//!
//! A consumer reads committed records only, so the ends that it requests are those of the last stable offset: an open
//! transaction hides all records after its first one. rdkafka has no call that requests other ends with the same client, so
//! this file calls librdkafka directly.
#![allow(
    unsafe_code,
    reason = "rdkafka does not wrap ListOffsets; each use documents its soundness"
)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;

use crate::topic_id::{Guard, admin_options, check_event};

/// Requests the end offset of each partition, open transactions included. A partition whose leader reports an error is left
/// out. Blocks for up to `timeout`.
///
/// # Errors
/// [`KafkaError::MetadataFetch`].
pub fn high_watermarks<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: &[i32],
    timeout: Duration,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let name = CString::new(topic).map_err(|_| KafkaError::MetadataFetch(RDKafkaErrorCode::InvalidTopic))?;
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let handle = client.native_ptr();
    // SAFETY: `handle` is valid while `client` is borrowed. librdkafka creates every object; the guards destroy each object
    // once, in reverse order of creation. `add` returns a pointer into the list, which is valid until the next call. The
    // request copies the list and the options before `ListOffsets` returns. Its isolation level is "read uncommitted" unless
    // the options say otherwise.
    unsafe {
        let list = Guard(sys::rd_kafka_topic_partition_list_new(0), |it| {
            sys::rd_kafka_topic_partition_list_destroy(it);
        });
        for partition in partitions {
            let added = sys::rd_kafka_topic_partition_list_add(list.0, name.as_ptr(), *partition);
            (*added).offset = sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64;
        }
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        let options = admin_options(handle, operation, millis);
        let queue = Guard(sys::rd_kafka_queue_new(handle), |it| {
            sys::rd_kafka_queue_destroy(it);
        });
        sys::rd_kafka_ListOffsets(handle, list.0, options.0, queue.0);
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

/// # Safety
/// `event` is null, or an event of librdkafka that is not destroyed during the call.
unsafe fn read_response(event: *mut sys::rd_kafka_event_t) -> Result<BTreeMap<i32, i64>, KafkaError> {
    // SAFETY: the event is valid by the contract above. Everything read from it is owned by it and is read before it is
    // destroyed. The pointers are valid up to the count.
    unsafe {
        check_event(event)?;
        let result = sys::rd_kafka_event_ListOffsets_result(event);
        if result.is_null() {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::BadMessage));
        }
        let mut count = 0;
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        let mut offsets = BTreeMap::new();
        for index in 0..count {
            let found = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
            if found.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && found.offset >= 0 {
                offsets.insert(found.partition, found.offset);
            }
        }
        Ok(offsets)
    }
}
