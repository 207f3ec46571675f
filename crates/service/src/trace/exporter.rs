//! Exports spans to a collector in batches, with OTLP over HTTP. A collector that is away, slow or refuses costs spans and
//! nothing else.

use std::time::{Duration, Instant};

use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout_at};

use super::otlp::{ExportRequest, ExportResponse, MEDIA_TYPE};
use super::queue::Message;
use super::span_data::{AttributeValue, SpanData};
use crate::backoff::Backoff;
use crate::metrics::SpanCounts;
use crate::process::exit::chain;
use crate::telemetry::log_limiter::LogLimiter;

/// The maximum number of spans in a request.
const BATCH: usize = 512;

/// How long the first span of a batch waits for others.
const INTERVAL: Duration = Duration::from_secs(1);

/// The timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of attempts for a batch.
const ATTEMPTS: usize = 3;

/// The delays between them.
const BACKOFF: Backoff = Backoff {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(5),
};

#[derive(Debug, Error)]
enum ExportError {
    #[error("failed to reach the collector")]
    Unreachable(#[source] reqwest::Error),
    #[error("the collector returned {0}")]
    Status(StatusCode),
    #[error("failed to read the collector's response")]
    Response(#[source] reqwest::Error),
}

impl ExportError {
    /// Whether another attempt may succeed, by the protocol's rules.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            // The collector has taken the spans.
            Self::Response(_) => false,
        }
    }
}

/// The task that exports the spans of a process.
pub(super) struct Exporter {
    client: Client,
    endpoint: Url,
    headers: HeaderMap,
    resource: [(&'static str, AttributeValue); 2],
    counts: SpanCounts,
    log: LogLimiter,
}

impl Exporter {
    pub(super) fn new(
        service: &'static str,
        endpoint: Url,
        headers: HeaderMap,
        counts: SpanCounts,
    ) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .redirect(Policy::none())
            .build()?;
        Ok(Self {
            client,
            endpoint,
            headers,
            resource: [
                ("service.name", service.into()),
                ("service.version", env!("CARGO_PKG_VERSION").into()),
            ],
            counts,
            log: LogLimiter::per_minute(1),
        })
    }

    /// Exports until every tracer is dropped.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        while let Some(first) = queue.recv().await {
            let (spans, flushed) = collect(first, &mut queue).await;
            if !spans.is_empty() {
                self.export(&spans).await;
            }
            if let Some(flushed) = flushed {
                // The process does not wait for the flush any longer than it wants.
                let _ = flushed.send(());
            }
        }
    }

    async fn export(&mut self, spans: &[SpanData]) {
        let body = ExportRequest::new(&self.resource, spans).encode_to_vec();
        let mut delays = BACKOFF.delays().take(ATTEMPTS - 1);
        let error = loop {
            match self.send(body.clone()).await {
                Ok(rejected) => return self.count(spans.len() as u64, rejected),
                Err(error) if error.is_retryable() => match delays.next() {
                    Some(delay) => sleep(delay).await,
                    None => break error,
                },
                Err(error) => break error,
            }
        };
        self.count(spans.len() as u64, spans.len() as u64);
        if self.log.admit(Instant::now()) {
            tracing::warn!(endpoint = %self.endpoint, error = chain(&error), "spans dropped");
        }
    }

    /// Sends one request. Returns the number of spans that the collector has rejected.
    async fn send(&self, body: Vec<u8>) -> Result<u64, ExportError> {
        let request = self.client.post(self.endpoint.clone());
        let request = request
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, MEDIA_TYPE);
        let response = request
            .body(body)
            .send()
            .await
            .map_err(ExportError::Unreachable)?;
        if !response.status().is_success() {
            return Err(ExportError::Status(response.status()));
        }
        let body = response.bytes().await.map_err(ExportError::Response)?;
        // Some collectors respond with text, which says nothing about single spans.
        let response = ExportResponse::decode(body).unwrap_or_default();
        let rejected = response
            .partial_success
            .map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or(0))
    }

    fn count(&self, spans: u64, rejected: u64) {
        let rejected = rejected.min(spans);
        self.counts.exported.inc_by(spans - rejected);
        self.counts.dropped.inc_by(rejected);
    }
}

/// Collects the spans of a batch, up to a flush.
async fn collect(
    first: Message,
    queue: &mut mpsc::Receiver<Message>,
) -> (Vec<SpanData>, Option<oneshot::Sender<()>>) {
    let until = tokio::time::Instant::now() + INTERVAL;
    let (mut spans, mut next) = (Vec::new(), Some(first));
    loop {
        match next {
            Some(Message::Span(span)) => spans.push(*span),
            Some(Message::Flush(flushed)) => return (spans, Some(flushed)),
            None => return (spans, None),
        }
        if spans.len() >= BATCH {
            return (spans, None);
        }
        next = timeout_at(until, queue.recv()).await.unwrap_or(None);
    }
}

#[cfg(test)]
#[path = "exporter/tests.rs"]
mod tests;
