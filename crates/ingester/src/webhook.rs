//! Sends an event to a webhook when a run fails, and when the next one is complete. At least once, with a stable id.
//!
//! Events are stored until the webhook confirms them with a 2xx status. They are sent in order.

use std::time::Duration;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use model::headers::{JSON, http as names};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use service::Backoff;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::WebhookSettings;
use crate::http;
use crate::run::Run;
use crate::store::events::PendingEvent;
use crate::store::{Store, StoreError};

/// The header with the HMAC-SHA256 of the body, as `sha256=` and hex digits.
pub const SIGNATURE: &str = "affluent-signature";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF: Backoff = Backoff {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(60),
};

/// Sends stored events to the webhook.
pub struct Webhook {
    client: Client,
    url: Url,
    key: Option<hmac::Key>,
    store: Store,
    max_age: Duration,
}

/// Error of one request. The URL may be a secret and is not shown.
#[derive(Debug, Error)]
enum WebhookError {
    #[error("failed to reach the webhook")]
    Unreachable(#[source] reqwest::Error),
    #[error("the webhook responded with {0}")]
    Status(StatusCode),
}

/// The body of a request.
#[derive(Serialize)]
struct EventBody<'e> {
    id: &'e str,
    #[serde(rename = "type")]
    kind: &'static str,
    at: Timestamp,
    run: &'e Run,
}

impl Webhook {
    /// Creates the webhook of the settings, if it has a URL. Does not connect yet.
    ///
    /// # Errors
    /// Returns an error when TLS can't be set up.
    pub fn new(settings: &WebhookSettings, store: Store) -> Result<Option<Self>, reqwest::Error> {
        let Some(url) = settings.endpoint() else {
            return Ok(None);
        };
        let key = |secret: &service::Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        Ok(Some(Self {
            client: http::client(&url, CONNECT_TIMEOUT, settings.request_timeout)?,
            url,
            key: settings.secret.as_ref().map(key),
            store,
            max_age: settings.timeout,
        }))
    }

    /// Sends events until it is dropped or the store fails. `run_ended` notifies of runs that have ended.
    pub async fn run(self, mut run_ended: watch::Receiver<()>) -> StoreError {
        loop {
            run_ended.mark_unchanged();
            if let Err(error) = self.send_pending().await {
                return error;
            }
            if run_ended.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sends the pending events, for at most `max`.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store fails.
    pub async fn send_all(&self, max: Duration) -> Result<(), StoreError> {
        let sent = timeout(max, self.send_pending()).await;
        sent.unwrap_or(Ok(()))
    }

    /// Sends each pending event, with retries until it is too old.
    async fn send_pending(&self) -> Result<(), StoreError> {
        let mut delays = BACKOFF.delays();
        while let Some(event) = self.store.pending_events()?.into_iter().next() {
            let (run, kind) = (event.run.id, event.event.name());
            let age = Timestamp::now().duration_since(event.at);
            if Duration::try_from(age).is_ok_and(|age| age > self.max_age) {
                tracing::error!(%run, event = kind, "webhook was not notified within webhook.timeout");
                self.store.remove_event(run)?;
                continue;
            }
            match self.send(&event).await {
                Ok(()) => {
                    tracing::info!(%run, event = kind, "webhook notified");
                    self.store.remove_event(run)?;
                    delays = BACKOFF.delays();
                }
                Err(error) => {
                    let error = service::process::chain(&error);
                    tracing::warn!(%run, event = kind, error, "failed to notify the webhook, retrying");
                    sleep(delays.next().unwrap_or(BACKOFF.max)).await;
                }
            }
        }
        Ok(())
    }

    async fn send(&self, event: &PendingEvent) -> Result<(), WebhookError> {
        let kind = event.event.name();
        let id = format!("{}/{kind}", event.run.id);
        let body = EventBody {
            id: &id,
            kind,
            at: event.at,
            run: &event.run,
        };
        let body = serde_json::to_vec(&body).expect("a run has text keys and serializes");
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, JSON)
            .header(names::IDEMPOTENCY_KEY, &id);
        if let Some(key) = &self.key {
            request = request.header(SIGNATURE, signature(key, &body));
        }
        let sent = request.body(body).send().await;
        let status = sent
            .map_err(|error| WebhookError::Unreachable(error.without_url()))?
            .status();
        status
            .is_success()
            .then_some(())
            .ok_or(WebhookError::Status(status))
    }
}

fn signature(key: &hmac::Key, body: &[u8]) -> String {
    let tag = hmac::sign(key, body);
    let digits = tag.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256={}", digits.collect::<String>())
}

#[cfg(test)]
mod tests;
