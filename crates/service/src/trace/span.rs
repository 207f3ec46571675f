//! A span: one piece of work of a sampled trace, from its start until it is dropped.
//!
//! Attributes never hold keys or values of records.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::context::{SpanId, TraceContext};
use super::queue::SpanQueue;
use super::span_data::{AttributeValue, Kind, SpanData};

/// The maximum number of links of a span, OpenTelemetry's default.
pub const MAX_LINKS: usize = 128;

/// A span in progress. It ends and is exported when it is dropped.
pub struct Span {
    context: TraceContext,
    /// `None` once it is discarded or exported.
    data: Option<SpanData>,
    queue: SpanQueue,
}

impl Span {
    pub(super) fn start(
        queue: SpanQueue,
        name: &'static str,
        kind: Kind,
        context: TraceContext,
        parent: Option<SpanId>,
    ) -> Self {
        let data = SpanData {
            name,
            kind,
            context,
            parent,
            start: nanos(SystemTime::now()),
            end: 0,
            attributes: Vec::new(),
            links: Vec::new(),
            dropped_links: 0,
            error: None,
        };
        Self {
            context,
            data: Some(data),
            queue,
        }
    }

    /// The ids of the span.
    #[must_use]
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Moves the start to `at`.
    pub fn started_at(&mut self, at: SystemTime) {
        self.update(|data| data.start = nanos(at));
    }

    /// Moves the start back to `elapsed` before now.
    pub fn started_before(&mut self, elapsed: Duration) {
        let at = SystemTime::now().checked_sub(elapsed);
        self.started_at(at.unwrap_or(UNIX_EPOCH));
    }

    /// Adds an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<AttributeValue>) {
        self.update(|data| data.attributes.push((key, value.into())));
    }

    /// Links the span to another one. At most [`MAX_LINKS`] are kept; the others are counted.
    pub fn link(&mut self, to: TraceContext) {
        self.update(|data| {
            if data.links.len() < MAX_LINKS {
                data.links.push(to);
            } else {
                data.dropped_links += 1;
            }
        });
    }

    /// Marks the work as failed. The reason is constant, so it holds no values.
    pub fn fail(&mut self, reason: &'static str) {
        self.update(|data| data.error = Some(reason));
    }

    /// Ends the span without exporting it.
    pub fn discard(mut self) {
        self.data = None;
    }

    fn update(&mut self, change: impl FnOnce(&mut SpanData)) {
        if let Some(data) = &mut self.data {
            change(data);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut data) = self.data.take() {
            // A clock that was moved back must not end the span before its start.
            data.end = nanos(SystemTime::now()).max(data.start);
            self.queue.push(data);
        }
    }
}

/// Nanoseconds since 1970, until the year 2554.
fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
