//! One request of librdkafka's admin API with a client that exists, and its response.
#![allow(
    unsafe_code,
    reason = "rdkafka offers the admin API to clients of its own only; each use documents its soundness"
)]

use std::ptr;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;

/// Sends a request and waits for its response, for up to `timeout`. Returns the event of a successful response.
///
/// # Errors
/// [`KafkaError::MetadataFetch`].
///
/// # Safety
/// `handle` is a client of librdkafka. `send` makes the request with the options and the queue that it gets.
pub unsafe fn admin_request(
    handle: *mut sys::rd_kafka_t,
    operation: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(*mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<Guard<sys::rd_kafka_event_t, impl Fn(*mut sys::rd_kafka_event_t)>, KafkaError> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the handle is valid by the contract above. librdkafka creates every object; the guards destroy each object
    // once, in reverse order of creation. A request copies the options before the call that sends it returns.
    unsafe {
        let options = Guard(
            sys::rd_kafka_AdminOptions_new(handle, operation),
            |it: *mut sys::rd_kafka_AdminOptions_t| sys::rd_kafka_AdminOptions_destroy(it),
        );
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, millis, ptr::null_mut(), 0);
        let queue = Guard(sys::rd_kafka_queue_new(handle), |it| {
            sys::rd_kafka_queue_destroy(it);
        });
        send(options.0, queue.0);
        // The request's own timeout applies first. The second one guards against a missing response.
        let event = Guard(
            sys::rd_kafka_queue_poll(queue.0, millis.saturating_add(1_000)),
            |it: *mut sys::rd_kafka_event_t| {
                if !it.is_null() {
                    sys::rd_kafka_event_destroy(it);
                }
            },
        );
        if event.0.is_null() {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut));
        }
        match sys::rd_kafka_event_error(event.0) {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(event),
            error => Err(KafkaError::MetadataFetch(error.into())),
        }
    }
}

/// Destroys an object of librdkafka when it goes out of scope.
pub struct Guard<T, D: Fn(*mut T)>(pub *mut T, pub D);

impl<T, D: Fn(*mut T)> Drop for Guard<T, D> {
    fn drop(&mut self) {
        (self.1)(self.0);
    }
}
