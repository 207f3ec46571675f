//! Whether the publisher takes records: what deliveries meet decides, and between runs a probe. Feeds `/readyz`;
//! starts and stops nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use service::{Dependency, Health};
use tokio::time::sleep;

use crate::delivery::publisher_client::{HttpPublisher, SendError};
use crate::delivery::response::ResponseError;

/// What is known of the publisher.
#[derive(Clone)]
pub struct PublisherHealth {
    publisher: Dependency,
    /// The latest delivery failed: a probe knows less and must not contradict.
    failing: Arc<AtomicBool>,
}

impl PublisherHealth {
    /// Not ready until something answers.
    #[must_use]
    pub fn new(health: &Health) -> Self {
        Self {
            publisher: health.dependency("publisher"),
            failing: Arc::default(),
        }
    }

    /// A request with records was answered, or not.
    pub fn record_send(&self, error: Option<&SendError>) {
        // A publisher that wants less, or less often, does take records.
        let unavailable = error.filter(|error| {
            !matches!(
                error,
                SendError::Response(ResponseError::TooLarge | ResponseError::Retryable { status: 429, .. })
            )
        });
        self.failing.store(unavailable.is_some(), Ordering::Release);
        self.set(unavailable);
    }

    /// No delivery is under way any more: what the last one met is the past.
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

/// Looks again and again whether the publisher answers.
pub struct PublisherProbe {
    publisher: HttpPublisher,
    publisher_health: PublisherHealth,
    interval: Duration,
}

impl PublisherProbe {
    /// A probe every `interval`.
    #[must_use]
    pub fn new(publisher: HttpPublisher, publisher_health: PublisherHealth, interval: Duration) -> Self {
        Self {
            publisher,
            publisher_health,
            interval,
        }
    }

    /// Looks until it is dropped.
    pub async fn run(self) -> Infallible {
        loop {
            let outcome = self.publisher.probe().await;
            self.publisher_health.record_probe(outcome.as_ref().err());
            sleep(self.interval).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(status: u16) -> SendError {
        SendError::Response(ResponseError::Retryable {
            status,
            retry_after: None,
        })
    }

    #[test]
    fn a_probe_does_not_contradict_a_failing_delivery() {
        let health = Health::default();
        let publisher_health = PublisherHealth::new(&health);
        assert!(!health.readiness().ready);
        publisher_health.record_probe(None);
        assert!(health.readiness().ready);
        publisher_health.record_send(Some(&later(503)));
        publisher_health.record_probe(None);
        let readiness = health.readiness();
        assert_eq!(readiness.dependencies[0].reason.as_deref(), Some("answered 503"));
        publisher_health.record_send(None);
        assert!(health.readiness().ready);
    }

    #[test]
    fn after_a_run_the_probe_decides() {
        let health = Health::default();
        let publisher_health = PublisherHealth::new(&health);
        publisher_health.record_send(Some(&later(504)));
        publisher_health.idle();
        publisher_health.record_probe(None);
        assert!(health.readiness().ready);
    }

    #[test]
    fn a_publisher_that_wants_less_is_ready() {
        let health = Health::default();
        let publisher_health = PublisherHealth::new(&health);
        publisher_health.record_send(Some(&later(429)));
        assert!(health.readiness().ready);
        publisher_health.record_send(Some(&SendError::Response(ResponseError::TooLarge)));
        assert!(health.readiness().ready);
    }
}
