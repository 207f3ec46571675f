//! How many records a partition has in the client's memory.
//!
//! rdkafka has no such call, so this file calls librdkafka directly.
#![allow(
    unsafe_code,
    reason = "rdkafka does not wrap the length of a queue; the use documents its soundness"
)]

use std::ffi::CString;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka_sys as sys;

/// Returns the number of fetched records that wait in the queue of a partition. Sends no request.
pub fn fetched_records<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> usize {
    let Ok(name) = CString::new(topic) else {
        return 0;
    };
    // SAFETY: the client is valid while it is borrowed, and the name ends with a zero byte. The queue is destroyed once, after
    // its use; this gives back the reference, not the partition's queue.
    unsafe {
        let queue = sys::rd_kafka_queue_get_partition(client.native_ptr(), name.as_ptr(), partition);
        if queue.is_null() {
            return 0;
        }
        let records = sys::rd_kafka_queue_length(queue);
        sys::rd_kafka_queue_destroy(queue);
        records
    }
}
