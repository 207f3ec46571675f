//! The queue between the spans of a process and their exporter.

use prometheus::IntCounter;
use tokio::sync::{mpsc, oneshot};

use super::span_data::SpanData;

/// What the tracer sends to its exporter.
pub(super) enum Message {
    /// A span that has ended.
    Span(Box<SpanData>),
    /// Export the spans before this message at once, and respond.
    Flush(oneshot::Sender<()>),
}

/// The sending end of the exporter's queue.
#[derive(Clone)]
pub(super) struct SpanQueue {
    pub(super) sender: mpsc::Sender<Message>,
    pub(super) dropped: IntCounter,
}

impl SpanQueue {
    pub(super) fn push(&self, span: SpanData) {
        if self.sender.try_send(Message::Span(Box::new(span))).is_err() {
            self.dropped.inc();
        }
    }
}
