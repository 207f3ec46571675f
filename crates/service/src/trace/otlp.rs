//! The messages of OTLP's traces, with the fields that are used. Their numbers are part of the protocol, which is stable:
//! <https://opentelemetry.io/docs/specs/otlp/>.

use prost::{Enumeration, Message, Oneof};

use super::context::TraceContext;
use super::span_data::{AttributeValue, SpanData};

/// The media type of the messages.
pub(super) const MEDIA_TYPE: &str = "application/x-protobuf";

/// The name of the instrumentation.
const SCOPE: &str = "affluent";

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<OtlpResource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OtlpResource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) spans: Vec<OtlpSpan>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OtlpSpan {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) name: String,
    #[prost(int32, tag = "6")]
    pub(super) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub(super) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    pub(super) links: Vec<OtlpLink>,
    #[prost(uint32, tag = "14")]
    pub(super) dropped_links_count: u32,
    #[prost(message, optional, tag = "15")]
    pub(super) status: Option<OtlpStatus>,
    #[prost(fixed32, tag = "16")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OtlpLink {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) span_id: Vec<u8>,
    #[prost(fixed32, tag = "6")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OtlpStatus {
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(enumeration = "StatusCode", tag = "3")]
    pub(super) code: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(super) enum StatusCode {
    Unset = 0,
    Ok = 1,
    Error = 2,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 3")]
    pub(super) value: Option<Any>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Integer(i64),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_spans: i64,
}

impl ExportRequest {
    /// A request with the spans of one process.
    pub(super) fn new(resource: &[(&'static str, AttributeValue)], spans: &[SpanData]) -> Self {
        let scope = Scope {
            name: SCOPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Self {
            resource_spans: vec![ResourceSpans {
                resource: Some(OtlpResource {
                    attributes: attributes(resource),
                }),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans: spans.iter().map(OtlpSpan::from).collect(),
                }],
            }],
        }
    }
}

impl From<&SpanData> for OtlpSpan {
    fn from(span: &SpanData) -> Self {
        Self {
            trace_id: span.context.trace.bytes().to_vec(),
            span_id: span.context.span.bytes().to_vec(),
            parent_span_id: span
                .parent
                .map(|parent| parent.bytes().to_vec())
                .unwrap_or_default(),
            name: span.name.to_owned(),
            kind: span.kind as i32,
            start_time_unix_nano: span.start,
            end_time_unix_nano: span.end,
            attributes: attributes(&span.attributes),
            links: span.links.iter().map(OtlpLink::from).collect(),
            dropped_links_count: span.dropped_links,
            status: span.error.map(|reason| OtlpStatus {
                message: reason.to_owned(),
                code: StatusCode::Error.into(),
            }),
            flags: span.context.sampled.into(),
        }
    }
}

impl From<&TraceContext> for OtlpLink {
    fn from(context: &TraceContext) -> Self {
        Self {
            trace_id: context.trace.bytes().to_vec(),
            span_id: context.span.bytes().to_vec(),
            flags: context.sampled.into(),
        }
    }
}

fn attributes(attributes: &[(&'static str, AttributeValue)]) -> Vec<KeyValue> {
    let key_value = |(key, value): &(&'static str, AttributeValue)| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue {
            value: Some(match value {
                AttributeValue::Integer(number) => Any::Integer(*number),
                AttributeValue::Text(text) => Any::Text(text.clone()),
            }),
        }),
    };
    attributes.iter().map(key_value).collect()
}
