//! Names of record headers and HTTP headers, and their fixed values.
//!
//! HTTP header names are case-insensitive and in lower case here, as in HTTP/2. Kafka compares them exactly.

/// Headers of a record in the topic. Readers must treat all as optional.
pub mod kafka {
    /// The media type of the value: [`JSON`](super::JSON).
    pub const CONTENT_TYPE: &str = "content-type";
    /// The name of the value's message: [`Contract::name`](crate::Contract::name).
    pub const SCHEMA: &str = "schema";
    /// The hash of the writer's contract: [`Contract::hash`](crate::Contract::hash).
    pub const SCHEMA_HASH: &str = "schema-hash";
    /// When the publisher accepted the record, by its clock, in microseconds since 1970 as decimal text. It measures
    /// freshness and does not decide the order.
    pub const ACCEPTED_AT_US: &str = "accepted-at-us";
    /// When the response that the record comes from arrived from its source, by the source's reader, in microseconds
    /// since 1970 as decimal text. Of several responses in one batch, the oldest. It measures freshness only.
    pub const FETCHED_AT_US: &str = "fetched-at-us";
    /// The uuid of the ingester's run.
    pub const RUN_ID: &str = "run-id";
    /// The record's number within the run, as decimal text.
    pub const RUN_SEQ: &str = "run-seq";
    /// W3C Trace Context.
    pub const TRACEPARENT: &str = "traceparent";
    /// Every header that the publisher sets itself.
    pub const ALL: [&str; 8] = [
        CONTENT_TYPE,
        SCHEMA,
        SCHEMA_HASH,
        ACCEPTED_AT_US,
        FETCHED_AT_US,
        RUN_ID,
        RUN_SEQ,
        TRACEPARENT,
    ];
}

/// Headers of a dead letter, in addition to those of its record.
pub mod dead_letter {
    /// What the names begin with.
    pub const PREFIX: &str = "dlq-";
    /// A short stable name of the reason; of an invalid record [`Reason::label`](crate::Reason::label).
    pub const REASON: &str = "dlq-reason";
    /// The reason as text, which quotes no value.
    pub const ERROR: &str = "dlq-error";
    /// The topic of the record.
    pub const TOPIC: &str = "dlq-topic";
    /// The partition of the record.
    pub const PARTITION: &str = "dlq-partition";
    /// The topic's id, which distinguishes a recreated topic.
    pub const TOPIC_ID: &str = "dlq-topic-id";
    /// The offset of the record.
    pub const OFFSET: &str = "dlq-offset";
    /// The write timestamp of its row, in microseconds since 1970.
    pub const WRITE_TIMESTAMP: &str = "dlq-write-timestamp";
    /// When it became a dead letter, an RFC 3339 instant.
    pub const AT: &str = "dlq-at";
    /// The parts of the record that the dead letter lacks, because they do not fit into its topic: `value`, or
    /// `key, headers, value`. Absent from a complete one.
    pub const OMITTED: &str = "dlq-omitted";
}

/// Headers of requests to the publisher and of its responses.
pub mod http {
    /// When the response that the request's records come from arrived from their source, in microseconds since 1970.
    pub const FETCHED_AT_US: &str = "fetched-at-us";
    /// The uuid of the ingester's run.
    pub const RUN_ID: &str = "run-id";
    /// The number within the run of the request's first record; the record at index i has this plus i.
    pub const RUN_SEQ: &str = "run-seq";
    /// The idempotency key. A repeated request with the same key gets the first response without a second write.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    /// The caller's preference for the response; see [`RETURN_REPRESENTATION`].
    pub const PREFER: &str = "prefer";
    /// The value of [`PREFER`] that requests each record's partition and offset.
    pub const RETURN_REPRESENTATION: &str = "return=representation";
    /// W3C Trace Context, propagated to Kafka.
    pub const TRACEPARENT: &str = "traceparent";
    /// What the name of an HTTP header begins with that becomes a Kafka header, under the rest of its name.
    pub const KAFKA_HEADER_PREFIX: &str = "kafka-header-";
    /// The id of the request, for logs.
    pub const REQUEST_ID: &str = "x-request-id";
}

/// The media type of one record, and of an array of them.
pub const JSON: &str = "application/json";
/// The media type of newline-delimited records.
pub const NDJSON: &str = "application/x-ndjson";
/// The media type of an error response (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";
/// The beginning of each problem type of our services. A gateway's error response has none of them.
pub const PROBLEM_TYPE_PREFIX: &str = "urn:affluent:problem:";
