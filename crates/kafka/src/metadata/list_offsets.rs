//! Requests offsets of many partitions at once.
//!
//! rdkafka requests one partition at a time, and only for the ends of committed records, so this file calls librdkafka
//! directly.
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

use crate::admin_request::{Guard, admin_request};

/// Which offset of a partition is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// That of the first record.
    Beginning,
    /// The end of the committed records: an open transaction hides all records after its first one.
    CommittedEnd,
    /// The end, open transactions included.
    End,
}

/// An offset as the leader of its partition reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset.
    pub offset: i64,
    /// The leader epoch: of the leader itself for an end.
    pub leader_epoch: Option<i32>,
}

/// Requests an offset of each partition, from all leaders at once. A partition whose leader reports an error, or does not
/// respond within `timeout`, is left out. Every partition must have a leader, or all of them wait for the timeout.
///
/// # Errors
/// [`KafkaError::MetadataFetch`].
pub fn list_offsets<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: &[i32],
    spec: OffsetSpec,
    timeout: Duration,
) -> Result<BTreeMap<i32, ListedOffset>, KafkaError> {
    let name = CString::new(topic).map_err(|_| KafkaError::MetadataFetch(RDKafkaErrorCode::InvalidTopic))?;
    let handle = client.native_ptr();
    // SAFETY: `handle` is valid while `client` is borrowed. librdkafka creates every object; the guards destroy each object
    // once, in reverse order of creation. `add` returns a pointer into the list, which is valid until the next call. The
    // request copies the list before `ListOffsets` returns. Destroying no error is allowed.
    unsafe {
        let list = Guard(sys::rd_kafka_topic_partition_list_new(0), |it| {
            sys::rd_kafka_topic_partition_list_destroy(it);
        });
        for partition in partitions {
            let added = sys::rd_kafka_topic_partition_list_add(list.0, name.as_ptr(), *partition);
            (*added).offset = match spec {
                OffsetSpec::Beginning => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64,
                OffsetSpec::CommittedEnd | OffsetSpec::End => {
                    sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64
                }
            };
        }
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        let event = admin_request(handle, operation, timeout, |options, queue| {
            if spec == OffsetSpec::CommittedEnd {
                let level = sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED;
                // Fails for other requests only.
                sys::rd_kafka_error_destroy(sys::rd_kafka_AdminOptions_set_isolation_level(options, level));
            }
            sys::rd_kafka_ListOffsets(handle, list.0, options, queue);
        })?;
        read_response(event.0)
    }
}

/// # Safety
/// `event` is an event of librdkafka that is not destroyed during the call.
unsafe fn read_response(
    event: *mut sys::rd_kafka_event_t,
) -> Result<BTreeMap<i32, ListedOffset>, KafkaError> {
    // SAFETY: the event is valid by the contract above. Everything read from it is owned by it and is read before it is
    // destroyed. The pointers are valid up to the count.
    unsafe {
        let result = sys::rd_kafka_event_ListOffsets_result(event);
        if result.is_null() {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::BadMessage));
        }
        let mut count = 0;
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        let mut offsets = BTreeMap::new();
        for index in 0..count {
            let found = sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
            let leader_epoch = sys::rd_kafka_topic_partition_get_leader_epoch(found);
            let found = &*found;
            if found.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && found.offset >= 0 {
                let listed = ListedOffset {
                    offset: found.offset,
                    leader_epoch: (leader_epoch >= 0).then_some(leader_epoch),
                };
                offsets.insert(found.partition, listed);
            }
        }
        Ok(offsets)
    }
}
