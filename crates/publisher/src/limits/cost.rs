//! The memory cost of a record in flight.

/// The memory of a record in flight in addition to its own bytes, in bytes: librdkafka's message, its key and
/// headers, and our delivery state; of an invalid record its errors. Without it small records would fill the memory
/// before they reach the limit in bytes.
pub(crate) const RECORD_COST: usize = 700;
