//! Distributed tracing: W3C Trace Context, a few explicit spans, and their export over OTLP.
//!
//! Independent of the log. Without an endpoint no span exists, so nothing is allocated. The pipeline never waits for
//! the collector: the queue is bounded, and spans that do not fit are dropped and counted.

pub mod context;
mod exporter;
mod otlp;
mod queue;
mod settings;
pub mod span;
mod span_data;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use self::context::{SpanId, TraceContext, TraceId};
pub use self::settings::TelemetrySettings;
pub use self::span::Span;
pub use self::span_data::Kind;

use self::context::Sampler;
use self::exporter::Exporter;
use self::queue::{Message, SpanQueue};
use crate::metrics::Metrics;

/// The maximum number of spans that wait for the exporter. Each takes some 300 bytes.
const QUEUE: usize = 4_096;

/// Starts spans. Clones share the exporter. The default is off.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Active>>);

struct Active {
    sampler: Sampler,
    queue: SpanQueue,
}

impl Tracer {
    /// Starts the exporter of `service` if the settings have an endpoint. `metrics` count its spans.
    ///
    /// # Errors
    /// If TLS can't be set up.
    pub fn start(
        service: &'static str,
        settings: &TelemetrySettings,
        metrics: &Metrics,
    ) -> Result<Self, reqwest::Error> {
        let Some(endpoint) = settings.endpoint() else {
            return Ok(Self::default());
        };
        let counts = metrics.spans();
        let (sender, receiver) = mpsc::channel(QUEUE);
        let queue = SpanQueue {
            sender,
            dropped: counts.dropped.clone(),
        };
        let exporter = Exporter::new(service, endpoint, settings.headers(), counts)?;
        tokio::spawn(exporter.run(receiver));
        Ok(Self(Some(Arc::new(Active {
            sampler: Sampler::new(settings.sample_ratio),
            queue,
        }))))
    }

    /// Whether spans are exported.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a trace that begins here is sampled. The decision is a function of the id.
    #[must_use]
    pub fn samples(&self, trace: TraceId) -> bool {
        self.0
            .as_ref()
            .is_some_and(|active| active.sampler.samples(trace))
    }

    /// Starts the span that `context` names, if its trace is sampled.
    #[must_use]
    pub fn span(
        &self,
        name: &'static str,
        kind: Kind,
        context: TraceContext,
        parent: Option<SpanId>,
    ) -> Option<Span> {
        let active = self.0.as_ref().filter(|_| context.sampled)?;
        Some(Span::start(active.queue.clone(), name, kind, context, parent))
    }

    /// Starts a span with a random id below `parent`, if its trace is sampled.
    #[must_use]
    pub fn child(&self, name: &'static str, kind: Kind, parent: &TraceContext) -> Option<Span> {
        let active = self.0.as_ref().filter(|_| parent.sampled)?;
        let context = parent.with_span(SpanId::random());
        let queue = active.queue.clone();
        Some(Span::start(queue, name, kind, context, Some(parent.span)))
    }

    /// Waits until the spans that have ended are exported or dropped, up to `timeout`.
    pub async fn flush(&self, timeout: Duration) {
        let Some(active) = &self.0 else { return };
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if active.queue.sender.send(Message::Flush(done)).await.is_ok() {
                // An exporter that has ended has nothing to export.
                let _ = flushed.await;
            }
        };
        if tokio::time::timeout(timeout, flush).await.is_err() {
            tracing::warn!("spans not exported before the end of the process");
        }
    }
}
