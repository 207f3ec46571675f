//! Changes single settings of a topic.
//!
//! rdkafka has the older request only, which resets all settings that it does not name, so this file calls librdkafka
//! directly.
#![allow(
    unsafe_code,
    reason = "rdkafka does not wrap IncrementalAlterConfigs; each use documents its soundness"
)]

use std::ffi::CString;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;

use crate::admin_request::{Guard, admin_request};

/// Sets these settings of `topic`. Blocks for up to `timeout`.
///
/// # Errors
/// [`KafkaError::AdminOp`] if the brokers reject the change, [`KafkaError::MetadataFetch`] if they do not respond.
pub(crate) fn alter_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    settings: &[(&str, String)],
    timeout: Duration,
) -> Result<(), KafkaError> {
    let text =
        |text: &str| CString::new(text).map_err(|_| KafkaError::AdminOp(RDKafkaErrorCode::InvalidArgument));
    let name = text(topic)?;
    let settings = settings
        .iter()
        .map(|(name, value)| Ok((text(name)?, text(value)?)));
    let settings: Vec<_> = settings.collect::<Result<_, KafkaError>>()?;
    let handle = client.native_ptr();
    // SAFETY: `handle` is valid while `client` is borrowed. The texts outlive the calls, which copy them. The guard
    // destroys the resource once; the request copies it before the call that sends it returns. Destroying no error is
    // allowed.
    unsafe {
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        let resource = Guard(sys::rd_kafka_ConfigResource_new(kind, name.as_ptr()), |it| {
            sys::rd_kafka_ConfigResource_destroy(it);
        });
        for (name, value) in &settings {
            let set = sys::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET;
            let error = sys::rd_kafka_ConfigResource_add_incremental_config(
                resource.0,
                name.as_ptr(),
                set,
                value.as_ptr(),
            );
            let is_refused = !error.is_null();
            sys::rd_kafka_error_destroy(error);
            if is_refused {
                return Err(KafkaError::AdminOp(RDKafkaErrorCode::InvalidArgument));
            }
        }
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS;
        let event = admin_request(handle, operation, timeout, |options, queue| {
            let mut resources = [resource.0];
            sys::rd_kafka_IncrementalAlterConfigs(handle, resources.as_mut_ptr(), 1, options, queue);
        })?;
        read_response(event.0)
    }
}

/// # Safety
/// `event` is an event of librdkafka that is not destroyed during the call.
unsafe fn read_response(event: *mut sys::rd_kafka_event_t) -> Result<(), KafkaError> {
    // SAFETY: the event is valid by the contract above. Everything read from it is owned by it and is read before it is
    // destroyed. The pointers are valid up to the count.
    unsafe {
        let result = sys::rd_kafka_event_IncrementalAlterConfigs_result(event);
        if result.is_null() {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::BadMessage));
        }
        let mut count = 0;
        let resources = sys::rd_kafka_IncrementalAlterConfigs_result_resources(result, &raw mut count);
        for index in 0..count {
            match sys::rd_kafka_ConfigResource_error(*resources.add(index)) {
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                error => return Err(KafkaError::AdminOp(error.into())),
            }
        }
        Ok(())
    }
}
