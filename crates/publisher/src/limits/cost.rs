//! The memory costs of a request and of a record in flight.

/// The memory of a request in flight in addition to its body and records, in bytes: its task, its stream, and a response
/// up to this size. Without it requests that wait for their bodies would not be limited.
pub(crate) const REQUEST_COST: usize = 4 * 1024;

/// The memory of a record in flight in addition to its own bytes, in bytes: librdkafka's message, its key and
/// headers, and our delivery state; of an invalid record its errors. Without it small records would fill the memory
/// before they reach the limit in bytes.
pub(crate) const RECORD_COST: usize = 700;
