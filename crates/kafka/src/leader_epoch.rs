//! Leader epochs of records and of positions, by which a client detects a truncated log (KIP-320).
//!
//! rdkafka has no such calls, so this file calls librdkafka directly.
#![allow(
    unsafe_code,
    reason = "rdkafka does not wrap leader epochs; each use documents its soundness"
)]

use std::ffi::CString;

use rdkafka::TopicPartitionList;
use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;

/// Returns the epoch of the leader that appended the record; `None` for an old broker or message format.
pub fn of(message: &BorrowedMessage<'_>) -> Option<i32> {
    // SAFETY: the message is valid while it is borrowed.
    let epoch = unsafe { sys::rd_kafka_message_leader_epoch(message.ptr()) };
    (epoch >= 0).then_some(epoch)
}

/// Sets the epoch of the record before the partition's offset. A consumer that is assigned the list checks that the
/// leader's log still has that record.
///
/// A partition that is not in the list is ignored.
pub fn set(list: &mut TopicPartitionList, topic: &str, partition: i32, epoch: i32) {
    let Ok(name) = CString::new(topic) else { return };
    // SAFETY: the list is valid and not shared while it is borrowed mutably. The element belongs to the list.
    unsafe {
        let element = sys::rd_kafka_topic_partition_list_find(list.ptr(), name.as_ptr(), partition);
        if !element.is_null() {
            sys::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
        }
    }
}
