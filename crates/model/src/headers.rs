//! The names of what travels beside a record, and the few fixed values. HTTP compares header names without regard to
//! case, so those are written in lower case, as HTTP/2 sends them; Kafka compares them exactly.

/// Headers of a record in the topic, all of them optional to a reader.
pub mod kafka {
    /// The media type of the value: [`JSON`](super::JSON).
    pub const CONTENT_TYPE: &str = "content-type";
    /// The name of the value's message: [`SCHEMA`](crate::SCHEMA).
    pub const SCHEMA: &str = "schema";
    /// The publisher's clock when it took the record, in microseconds since 1970, as decimal text. It measures
    /// freshness and never decides an order.
    pub const ACCEPTED_AT_US: &str = "accepted-at-us";
    /// The uuid of the ingester's run.
    pub const RUN_ID: &str = "run-id";
    /// The record's number within the run, as decimal text.
    pub const RUN_SEQ: &str = "run-seq";
    /// W3C Trace Context.
    pub const TRACEPARENT: &str = "traceparent";
}

/// Headers that a dead letter has in addition to those of the record it was.
pub mod dead_letter {
    /// A short stable name of the reason; for an invalid record [`Reason::label`](crate::Reason::label).
    pub const REASON: &str = "dlq-reason";
    /// The reason as a sentence, which quotes no value.
    pub const ERROR: &str = "dlq-error";
    /// The topic that the record lay in.
    pub const TOPIC: &str = "dlq-topic";
    /// The partition that it lay in.
    pub const PARTITION: &str = "dlq-partition";
    /// Kafka's id of that topic, which tells a recreated topic from the one before.
    pub const TOPIC_ID: &str = "dlq-topic-id";
    /// The offset that it lay at.
    pub const OFFSET: &str = "dlq-offset";
    /// The write timestamp that its row would have had, in microseconds since 1970.
    pub const WRITE_TIMESTAMP: &str = "dlq-write-timestamp";
    /// When it was set aside, an RFC 3339 instant.
    pub const AT: &str = "dlq-at";
}

/// Headers of requests to the publisher and of its answers.
pub mod http {
    /// The uuid of the ingester's run.
    pub const RUN_ID: &str = "run-id";
    /// The number within the run of the request's first record; the one at index i has this plus i.
    pub const RUN_SEQ: &str = "run-seq";
    /// A repeat under the same key gets the first answer without a second write.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    /// What the caller wants to hear; see [`RETURN_REPRESENTATION`].
    pub const PREFER: &str = "prefer";
    /// The value of [`PREFER`] that asks for each record's partition and offset.
    pub const RETURN_REPRESENTATION: &str = "return=representation";
    /// W3C Trace Context, passed on into Kafka.
    pub const TRACEPARENT: &str = "traceparent";
}

/// The media type of one record, and of an array of them.
pub const JSON: &str = "application/json";
/// The media type of newline-delimited records.
pub const NDJSON: &str = "application/x-ndjson";
/// The media type of an error answer (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";
