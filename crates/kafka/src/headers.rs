//! Record headers as bytes. rdkafka panics at a name that is not UTF-8, which other producers may write.
//!
//! rdkafka has no such call, so this file calls librdkafka directly.
#![allow(
    unsafe_code,
    reason = "rdkafka takes names for UTF-8; each use documents its soundness"
)]

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::ptr;

use rdkafka::message::{BorrowedMessage, OwnedHeaders};
use rdkafka_sys as sys;

/// Name and value of a header.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// Returns the headers of a record, in order. A name ends at its first zero byte, as in librdkafka.
pub fn headers<'a>(message: &'a BorrowedMessage<'_>) -> HeadersIter<'a> {
    let mut native = ptr::null_mut();
    // SAFETY: the message is valid while it is borrowed. Without headers the pointer stays null.
    let code = unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut native) };
    let found = code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    HeadersIter {
        native: if found { native } else { ptr::null_mut() },
        next: 0,
        message: PhantomData,
    }
}

/// Iterates over the headers of a record.
#[derive(Debug)]
pub struct HeadersIter<'a> {
    /// Null, or the list that belongs to the message.
    native: *mut sys::rd_kafka_headers_t,
    next: usize,
    message: PhantomData<&'a ()>,
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.native.is_null() {
            return None;
        }
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list belongs to the message, which is borrowed for `'a`, and is not changed. librdkafka ends each
        // name with a zero byte. Name and value are owned by the list.
        unsafe {
            let code = sys::rd_kafka_header_get_all(
                self.native,
                self.next,
                &raw mut name,
                &raw mut value,
                &raw mut size,
            );
            if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            self.next += 1;
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            Some((CStr::from_ptr(name).to_bytes(), value))
        }
    }
}

/// Appends a header.
#[must_use]
pub fn insert(headers: OwnedHeaders, (name, value): Header<'_>) -> OwnedHeaders {
    let native: *const sys::rd_kafka_headers_t = ptr::from_ref(headers.as_borrowed()).cast();
    let length = |bytes: &[u8]| isize::try_from(bytes.len()).expect("a slice has at most isize::MAX bytes");
    // SAFETY: a borrowed list is a view of the native list at the same address. `headers` owns the list, nobody else
    // refers to it, and librdkafka copies name and value.
    let code = unsafe {
        sys::rd_kafka_header_add(
            native.cast_mut(),
            name.as_ptr().cast::<c_char>(),
            length(name),
            value.map_or(ptr::null(), |value| value.as_ptr().cast()),
            value.map_or(0, length),
        )
    };
    assert!(
        code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
        "an owned list is writable"
    );
    headers
}
