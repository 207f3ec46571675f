//! The content of a span, as it is exported.

use super::context::{SpanId, TraceContext};

/// The role of a span, with the numbers of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work inside the process.
    Internal = 1,
    /// A request that the process serves.
    Server = 2,
    /// A request that the process sends.
    Client = 3,
    /// Records that the process writes to a topic.
    Producer = 4,
    /// Records that the process has read from a topic.
    Consumer = 5,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// A number.
    Integer(i64),
    /// A text.
    Text(String),
}

impl From<i64> for AttributeValue {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u16> for AttributeValue {
    fn from(number: u16) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u64> for AttributeValue {
    fn from(number: u64) -> Self {
        Self::Integer(number.try_into().unwrap_or(i64::MAX))
    }
}

impl From<usize> for AttributeValue {
    fn from(number: usize) -> Self {
        Self::Integer(number.try_into().unwrap_or(i64::MAX))
    }
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The content of a span.
#[derive(Clone, Debug)]
pub(super) struct SpanData {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) context: TraceContext,
    pub(super) parent: Option<SpanId>,
    /// Nanoseconds since 1970.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: Vec<(&'static str, AttributeValue)>,
    pub(super) links: Vec<TraceContext>,
    pub(super) dropped_links: u32,
    /// Why the work failed.
    pub(super) error: Option<&'static str>,
}
