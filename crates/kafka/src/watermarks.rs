//! The end of a partition as the consumer's own fetches have reported it.
//!
//! rdkafka has no such call, so this file calls librdkafka directly.
#![allow(
    unsafe_code,
    reason = "rdkafka does not wrap the cached watermarks; the use documents its soundness"
)]

use std::ffi::CString;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka_sys as sys;

/// Returns the high watermark of the last fetch of a partition; `None` before the first one. Sends no request.
///
/// With `client.rack` it is the watermark of the follower that the consumer reads.
pub fn fetched_end<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> Option<i64> {
    let name = CString::new(topic).ok()?;
    let (mut beginning, mut end) = (0, 0);
    // SAFETY: the client is valid while it is borrowed, the name ends with a zero byte, and both offsets are written before
    // the call returns.
    let code = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            client.native_ptr(),
            name.as_ptr(),
            partition,
            &raw mut beginning,
            &raw mut end,
        )
    };
    let known = code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && end >= 0;
    known.then_some(end)
}
