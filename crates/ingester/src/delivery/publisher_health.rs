//! Readiness of the publisher, from the outcome of deliveries and, between runs, of a probe. Feeds `/readyz`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use service::{Dependency, Health};
use tokio::time::sleep;

use crate::delivery::publisher_client::{HttpPublisher, SendError};
use crate::delivery::response::ResponseError;

/// Readiness of the publisher.
#[derive(Clone)]
pub struct PublisherHealth {
    publisher: Dependency,
    /// The latest delivery failed. A probe knows less and must not override it.
    failing: Arc<AtomicBool>,
}

impl PublisherHealth {
    /// Registers the dependency; it is not ready until the publisher responds.
    #[must_use]
    pub fn new(health: &Health) -> Self {
        Self {
            publisher: health.dependency("publisher"),
            failing: Arc::default(),
        }
    }

    /// Records the outcome of a request with records.
    pub fn record_send(&self, error: Option<&SendError>) {
        // A publisher that rejects the size or the rate of requests is available.
        let unavailable = error.filter(|error| {
            !matches!(
                error,
                SendError::Response(ResponseError::TooLarge | ResponseError::Retryable { status: 429, .. })
            )
        });
        self.failing.store(unavailable.is_some(), Ordering::Release);
        self.set(unavailable);
    }

    /// Records that no delivery is in flight; the outcome of the last one no longer counts.
    pub fn idle(&self) {
        self.failing.store(false, Ordering::Release);
    }

    fn record_probe(&self, error: Option<&SendError>) {
        if error.is_some() || !self.failing.load(Ordering::Acquire) {
            self.set(error);
        }
    }

    fn set(&self, error: Option<&SendError>) {
        match error {
            None => self.publisher.ready(),
            Some(error) => self.publisher.unready(service::process::chain(error)),
        }
    }
}

/// Probes the publisher periodically.
pub struct PublisherProbe {
    publisher: HttpPublisher,
    health: PublisherHealth,
    interval: Duration,
}

impl PublisherProbe {
    /// Creates a probe that runs every `interval`.
    #[must_use]
    pub fn new(publisher: HttpPublisher, health: PublisherHealth, interval: Duration) -> Self {
        Self {
            publisher,
            health,
            interval,
        }
    }

    /// Probes until it is dropped.
    pub async fn run(self) -> Infallible {
        loop {
            let outcome = self.publisher.probe().await;
            self.health.record_probe(outcome.as_ref().err());
            sleep(self.interval).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retryable(status: u16) -> SendError {
        SendError::Response(ResponseError::Retryable {
            status,
            retry_after: None,
        })
    }

    #[test]
    fn probe_does_not_override_a_failing_delivery() {
        let health = Health::default();
        let publisher_health = PublisherHealth::new(&health);
        assert!(!health.readiness().ready);
        publisher_health.record_probe(None);
        assert!(health.readiness().ready);
        publisher_health.record_send(Some(&retryable(503)));
        publisher_health.record_probe(None);
        let readiness = health.readiness();
        assert_eq!(
            readiness.dependencies[0].reason.as_deref(),
            Some("the publisher responded with 503")
        );
        publisher_health.record_send(None);
        assert!(health.readiness().ready);
    }

    #[test]
    fn probe_decides_after_a_run() {
        let health = Health::default();
        let publisher_health = PublisherHealth::new(&health);
        publisher_health.record_send(Some(&retryable(504)));
        publisher_health.idle();
        publisher_health.record_probe(None);
        assert!(health.readiness().ready);
    }

    #[test]
    fn rate_limited_publisher_is_ready() {
        let health = Health::default();
        let publisher_health = PublisherHealth::new(&health);
        publisher_health.record_send(Some(&retryable(429)));
        assert!(health.readiness().ready);
        publisher_health.record_send(Some(&SendError::Response(ResponseError::TooLarge)));
        assert!(health.readiness().ready);
    }
}
